"""Pictures of shares, such as an entropy: numbers from 0 to 1 in colours of even steps, and the scale of them."""

from __future__ import annotations

import cv2
import numpy as np

from segjax.visualize.sheets import GAP, PAPER
from segjax.visualize.text import text_cover, write

TICKS = (0, 0.25, 0.5, 0.75, 1)
ENTROPY = "entropy / log(classes)"  # name of its scale


def share_to_color(shares: np.ndarray) -> np.ndarray:
    """Colours shares: black = 0, pale yellow = 1; equal steps are equally visible, also in grey.

    The colours are those of matplotlib's inferno.

    shares: (h, w), 0..1; others have the colour of the nearest end.
    Returns uint8 (h, w, 3).
    """
    grey = np.round(255 * np.clip(np.asarray(shares, np.float32), 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def share_legend(name: str, *, width: int, size: int = 13) -> np.ndarray:
    """Draws the scale of `share_to_color`: the name, a bar of all colours, and the shares of five of them below it.

    width: of the picture, pixels.
    size: of the text, pixels.
    Returns uint8 (h, width, 3).
    """
    box, line = round(size * 1.25), round(size * 1.35)
    numbers = [f"{tick:g}" for tick in TICKS]
    widths = [text_cover(number, size).shape[1] for number in numbers]
    picture = np.full((box + line + GAP, width, 3), PAPER, np.uint8)
    left = write(picture, name, 0, GAP // 2 + (box - line) // 2, size=size) + GAP + widths[0] // 2
    # as long as the numbers need to stand apart
    length = max(min(width - left - widths[-1], 24 * size), 2)
    bar = picture[GAP // 2 : GAP // 2 + box, left : left + length]
    bar[:] = share_to_color(np.linspace(0, 1, length)[None])[:, : bar.shape[1]]
    if sum(widths) + len(TICKS) * GAP > length:  # a narrow picture has room for the ends only
        numbers, widths, ticks = numbers[:: len(TICKS) - 1], widths[:: len(TICKS) - 1], TICKS[:: len(TICKS) - 1]
    else:
        ticks = TICKS
    for number, wide, tick in zip(numbers, widths, ticks):
        write(picture, number, max(0, left + round(tick * (length - 1)) - wide // 2), GAP // 2 + box, size=size)
    return picture
