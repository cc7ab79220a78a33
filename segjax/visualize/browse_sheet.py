"""Sheets of training samples: where the crop lies in its image, what the network sees, and its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from segjax import visualize

FRAME = (255, 214, 10)  # colour of the crop's frame
TITLES = ("image, crop, its place", "as the network sees it", "with labels", "labels")


@dataclasses.dataclass(frozen=True)
class Browsed:
    """One training sample.

    name: name of its record.
    source: image of the record, uint8 (H, W, 3).
    box: (y0, x0, y1, x1) of the crop in it, pixel edges, which may lie outside.
    place: pixel (y, x) that the crop must contain, None = any crop.
    centred_on: class at the place, "" = none.
    mirrored: whether the crop is mirrored left to right.
    image: crop that the network receives, uint8 (h, w, 3).
    label: its train ids (h, w).
    """

    name: str
    source: np.ndarray
    box: tuple[float, float, float, float]
    place: tuple[int, int] | None
    centred_on: str
    mirrored: bool
    image: np.ndarray
    label: np.ndarray

    @property
    def scale(self) -> float:
        """Factor by which the image was enlarged."""
        return self.image.shape[0] / (self.box[2] - self.box[0])

    @property
    def place_in_crop(self) -> tuple[float, float] | None:
        """The place in the crop, (y, x) in pixels."""
        if self.place is None:
            return None
        y, x = ((self.place[axis] + 0.5 - self.box[axis]) * self.scale for axis in (0, 1))
        return y, self.image.shape[1] - x if self.mirrored else x

    def caption(self) -> str:
        """Returns one line: name, place and class, scale, mirrored, share without labels."""
        place = f"around {self.centred_on} at y {self.place[0]}, x {self.place[1]}" if self.place else "anywhere"
        void = float((self.label == 255).mean())
        parts = [self.name, place, f"enlarged by {self.scale:.2f}", "mirrored" if self.mirrored else ""]
        return "    ".join(filter(None, [*parts, f"{100 * void:.0f} % not trained on" if void else ""]))


def browse_sheet(
    samples: Sequence[Browsed],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    heading: str = "",
    tile_width: int = 420,
) -> np.ndarray:
    """Builds a sheet: image with the crop's frame | crop | labels over it | labels; a row per sample, and a legend.

    Pixels that are not trained on (label 255: void, padding) are hatched.

    palette: uint8 (k, 3).
    tile_width: pixels.
    Returns uint8 (h, w, 3).
    """
    rows = []
    for sample in samples:
        void = sample.label == 255
        crops = [
            sample.image,
            visualize.hatch(visualize.overlay(sample.image, sample.label, palette), void),
            visualize.hatch(visualize.colorize(sample.label, palette), void),
        ]
        if sample.place is not None:
            crops = [_cross(crop, sample.place_in_crop) for crop in crops]
        rows.append([_framed(sample, tile_width), *(_enlarged(crop, tile_width) for crop in crops)])
    return visualize.labelled_sheet(
        rows,
        class_names,
        palette,
        captions=[sample.caption() for sample in samples],
        titles=TITLES,
        heading=heading,
        void="not trained on",
        tile_width=tile_width,
    )


def _framed(sample: Browsed, width: int) -> np.ndarray:
    """Returns the whole image, with a grey border if the crop exceeds it, and paler outside of the crop's frame."""
    height, full = sample.source.shape[:2]
    y0, x0, y1, x1 = sample.box
    top, left = max(0.0, -y0), max(0.0, -x0)
    size = (max(height, y1) + top, max(full, x1) + left)
    scale = width / size[1]
    canvas = np.full((max(1, round(size[0] * scale)), width, 3), 205, np.uint8)
    small = cv2.resize(
        sample.source, (max(1, round(full * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    y, x = round(top * scale), round(left * scale)
    small = small[: canvas.shape[0] - y, : canvas.shape[1] - x]
    canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    corners = [round((edge + shift) * scale) for edge, shift in zip(sample.box, (top, left, top, left))]
    pale = cv2.addWeighted(canvas, 0.55, np.full_like(canvas, 255), 0.45, 0)
    pale[corners[0] : corners[2], corners[1] : corners[3]] = canvas[corners[0] : corners[2], corners[1] : corners[3]]
    cv2.rectangle(pale, (corners[1], corners[0]), (corners[3] - 1, corners[2] - 1), FRAME, 2)
    if sample.place is not None:
        y, x = ((p + 0.5 + shift) * scale for p, shift in zip(sample.place, (top, left)))
        _draw_cross(pale, y, x, 6)
    return pale


def _enlarged(crop: np.ndarray, width: int) -> np.ndarray:
    """Returns a small crop enlarged with sharp pixels; a large one unchanged, as the sheet shrinks it."""
    factor = width // crop.shape[1]
    return crop.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else crop


def _cross(crop: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    crop = crop.copy()
    _draw_cross(crop, *place, max(3, round(crop.shape[1] / 60)))
    return crop


def _draw_cross(picture: np.ndarray, y: float, x: float, arm: int) -> None:
    center = (int(x), int(y))
    thick = max(1, arm // 4)
    cv2.drawMarker(picture, center, (0, 0, 0), cv2.MARKER_CROSS, 2 * arm + 1, thick + 2)
    cv2.drawMarker(picture, center, FRAME, cv2.MARKER_CROSS, 2 * arm - 1, thick)
