"""Text in pictures, in a font that matplotlib contains: the same on every machine, without system fonts."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

INK = (45, 49, 56)


@functools.cache
def _font(size: int, bold: bool):
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    font = FT2Font(path)
    font.set_size(size, 72)
    return font


def text_cover(line: str, size: int, bold: bool = False) -> np.ndarray:
    """Returns the coverage of a line of text, float (h, w) in 0..1; h depends on the size only: a common baseline.

    size: of the text, pixels.
    """
    font = _font(size, bold)
    font.set_text(line or " ", 0.0)
    font.draw_glyphs_to_bitmap(antialiased=True)
    glyphs = np.asarray(font.get_image(), np.float32) / 255
    _, total = font.get_width_height()
    descent = int(math.ceil(font.get_descent() / 64))
    ascent = int(total / 64) - descent
    height, baseline = round(size * 1.35), round(size * 1.02)
    canvas = np.zeros((height + glyphs.shape[0], glyphs.shape[1]), np.float32)
    top = max(0, baseline - max(ascent, glyphs.shape[0] - descent))
    canvas[top : top + glyphs.shape[0]] = glyphs
    return canvas[:height]


def write(
    picture: np.ndarray, line: str, x: int, y: int, *, size: int = 14, color: Sequence[int] = INK, bold: bool = False
) -> int:
    """Writes a line of text into a picture, in place, and returns the line's width in pixels.

    picture: uint8 (h, w, 3); the text is cut at its edges.
    x, y: top left corner of the text, pixels.
    size: of the text, pixels.
    """
    cover = text_cover(line, size, bold)
    width = cover.shape[1]
    cover = cover[: max(0, picture.shape[0] - y), : max(0, picture.shape[1] - x), None]
    area = picture[y : y + cover.shape[0], x : x + cover.shape[1]]
    area[:] = (area * (1 - cover) + cover * np.asarray(color, np.float32) + 0.5).astype(np.uint8)
    return width


def shorten(line: str, width: int, size: int, bold: bool = False) -> str:
    """Returns the line, cut at its start if it is wider than `width` pixels: file names differ at their ends."""
    while len(line) > 1 and text_cover(line, size, bold).shape[1] > width:
        line = "…" + line.lstrip("…")[1:]
    return line
