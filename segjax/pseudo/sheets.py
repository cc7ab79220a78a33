"""Sheets of pseudo labels: image, label, confidence, and the truth if it is known."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from segjax import visualize
from segjax.data.classes import IGNORE_LABEL
from segjax.pseudo.labels import Labelled

TITLES = ("image", "pseudo label", "confidence (dark = low)", "truth")


def pseudo_sheet(
    rows: Sequence[Labelled],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    heading: str = "",
    tile_width: int = 420,
) -> np.ndarray:
    """Returns a sheet with one row per image, uint8 (h, w, 3); pixels below the threshold are hatched.

    rows: labelled images.
    class_names: of the legend.
    palette: uint8 (k, 3).
    heading: of the sheet.
    tile_width: pixels.
    """
    with_truth = any(one.image.truth is not None for one in rows)
    pictures = [_row(one, palette, with_truth) for one in rows]
    captions = [f"{one.image.name}    mean confidence {one.confidence.mean() / 255:.3f}" for one in rows]
    return visualize.labelled_sheet(
        pictures,
        class_names,
        palette,
        void="ignored",
        captions=captions,
        titles=TITLES[: 3 + with_truth],
        heading=heading,
        tile_width=tile_width,
    )


def _row(one: Labelled, palette: np.ndarray, with_truth: bool) -> list[np.ndarray | None]:
    image, ignored = one.image.image, one.label == IGNORE_LABEL
    label = visualize.hatch(visualize.overlay(image, one.label, palette), ignored)
    heat = cv2.cvtColor(cv2.applyColorMap(one.confidence, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    row: list[np.ndarray | None] = [image, label, heat]
    if with_truth:
        truth = one.image.truth
        row.append(None if truth is None else visualize.overlay(image, truth, palette))
    return row
