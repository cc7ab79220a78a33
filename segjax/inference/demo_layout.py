"""Frames of a demo: panels side by side under their titles, with the legend of the classes below."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segjax import visualize


@dataclasses.dataclass(frozen=True)
class Layout:
    """Layout of a frame of the video.

    size: (h, w) of one panel.
    head, foot: titles above and legend below the panels, uint8 (h, w, 3).
    """

    size: tuple[int, int]
    head: np.ndarray
    foot: np.ndarray

    @classmethod
    def of(
        cls,
        frame: tuple[int, int],
        width: int,
        titles: Sequence[str],
        class_names: Sequence[str],
        palette: np.ndarray,
        *,
        entropy: bool = False,
    ) -> Layout:
        """Builds the layout.

        frame: (h, w) of the first frame.
        width: largest width of a panel, pixels.
        titles: of the panels, cut at their starts to the width of a panel; a single panel has none.
        class_names, palette: of the legend.
        entropy: whether the legend contains the scale of the entropy.
        """
        scale = min(1.0, width / frame[1])
        # video codecs require even sides
        size = tuple(max(2, 2 * round(side * scale / 2)) for side in frame)
        whole = size[1] * len(titles)
        text = max(11, min(16, size[1] // 40))
        head = np.full((2 * text if len(titles) > 1 else 0, whole, 3), visualize.PAPER, np.uint8)
        if len(titles) > 1:
            for number, title in enumerate(titles):
                fitting = visualize.shorten(title, size[1] - 2 * visualize.GAP, text, True)
                visualize.write(head, fitting, number * size[1] + visualize.GAP, text // 4, size=text, bold=True)
        foot = visualize.legend(class_names, palette, width=whole, size=text)
        if entropy:
            foot = np.concatenate([foot, visualize.share_legend(visualize.ENTROPY, width=whole, size=text)])
        return cls(size, head, foot[: foot.shape[0] // 2 * 2])

    def compose(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Returns one frame of the video from pictures of any size, one per panel."""
        row = np.concatenate([_fit(picture, self.size) for picture in pictures], axis=1)
        return np.concatenate([self.head, row, self.foot])


def _fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the picture as large as fits into (h, w), centred on black."""
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    if abs(picture.shape[0] * scale - size[0]) < 1.5 and abs(picture.shape[1] * scale - size[1]) < 1.5:
        h, w = size
    else:
        h, w = (max(1, round(side * scale)) for side in picture.shape[:2])
    if picture.shape[:2] != (h, w):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (w, h), interpolation=how)
    if (h, w) == size:
        return picture
    canvas = np.zeros((*size, 3), np.uint8)
    y, x = (size[0] - h) // 2, (size[1] - w) // 2
    canvas[y : y + h, x : x + w] = picture
    return canvas


def names_of_runs(paths: Sequence[str]) -> list[str]:
    """Returns the parts in which paths differ: runs/base/train and runs/relaxed/train are base and relaxed.

    Equal paths keep their last part.
    """
    parts = [Path(path).parts for path in paths]
    shortest = min(map(len, parts))
    start, end = 0, 0
    while start < shortest - 1 and len({one[start] for one in parts}) == 1:
        start += 1
    while end < shortest - 1 - start and len({one[-1 - end] for one in parts}) == 1:
        end += 1
    return [str(Path(*one[start : len(one) - end])) for one in parts]
