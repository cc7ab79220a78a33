"""Sheets: pictures in rows with titles, captions and a legend of the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from segjax.visualize.labels import hatch
from segjax.visualize.text import shorten, text_cover, write

FAINT = (122, 128, 138)
PAPER = (255, 255, 255)
GAP = 8  # pixels between the tiles of a sheet


def legend(names: Sequence[str], palette: np.ndarray, *, width: int, size: int = 13, void: str = "") -> np.ndarray:
    """Draws colour swatches with class names, in rows of equal columns.

    palette: uint8 (k, 3).
    width: of the picture, pixels.
    size: of the text, pixels.
    void: name of a last, hatched swatch; "" = none.
    Returns uint8 (h, width, 3).
    """
    names = [*names, *([void] if void else [])]
    box = round(size * 1.25)
    cell = max(text_cover(name, size).shape[1] for name in names) + box + 3 * GAP
    columns = max(1, min(len(names), width // cell))
    rows = math.ceil(len(names) / columns)
    columns = math.ceil(len(names) / rows)  # rows of equal length, as far as possible
    cell = width // columns
    line = box + GAP
    picture = np.full((rows * line + GAP, width, 3), PAPER, np.uint8)
    for i, name in enumerate(names):
        y, x = GAP // 2 + (i // columns) * line, (i % columns) * cell
        swatch = picture[y : y + box, x : x + box]
        swatch[:] = hatch(np.zeros_like(swatch), np.ones((box, box), bool)) if i == len(palette) else palette[i]
        cv2.rectangle(picture, (x, y), (x + box - 1, y + box - 1), (190, 190, 190), 1)
        write(picture, name, x + box + GAP // 2 + 2, y + (box - round(size * 1.35)) // 2, size=size)
    return picture


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    captions: Sequence[str | Sequence[str]] = (),
    titles: Sequence[str] = (),
    heading: str = "",
    foot: np.ndarray | None = None,
    tile_width: int = 480,
) -> np.ndarray:
    """Draws rows of pictures with column titles, a caption over each row, and one picture across the foot.

    rows: lists of uint8 (h, w, 3), or None for an empty tile; pictures keep their aspect ratio.
    captions: one text per row, or several, which share its columns equally.
    titles: one per column.
    heading: title of the sheet.
    foot: picture such as a legend, uint8 (h, w, 3), cut to the width of the sheet.
    tile_width: pixels.
    Returns uint8 (h, w, 3).
    """
    columns = max(len(row) for row in rows)
    width = sheet_width(columns, tile_width)
    size = max(11, min(16, tile_width // 26))
    line = round(size * 1.35) + GAP // 2
    parts = [np.full((GAP, width, 3), PAPER, np.uint8)]

    def strip(height):
        parts.append(np.full((height, width, 3), PAPER, np.uint8))
        return parts[-1]

    if heading:
        write(
            strip(round(line * 1.5)),
            shorten(heading, width - 2 * GAP, size + 4, True),
            GAP,
            0,
            size=size + 4,
            bold=True,
        )
    if titles:
        band = strip(line)
        for i, title in enumerate(titles):
            write(band, title, GAP + i * (tile_width + GAP), 0, size=size, bold=True)
    for i, row in enumerate(rows):
        if i < len(captions):
            texts = (captions[i],) if isinstance(captions[i], str) else captions[i]
            band, share = strip(line), (width - GAP) // len(texts)
            for j, text in enumerate(texts):
                write(band, shorten(text, share - GAP, size), GAP + j * share, 0, size=size, color=FAINT)
        tiles = [None if tile is None else _to_width(tile, tile_width) for tile in row]
        height = max(tile.shape[0] for tile in tiles if tile is not None)
        band = strip(height + GAP)
        for j, tile in enumerate(tiles):
            if tile is not None:
                x = GAP + j * (tile_width + GAP)
                band[: tile.shape[0], x : x + tile_width] = tile
    if foot is not None:
        band = strip(foot.shape[0] + GAP)
        inner = foot[:, : width - 2 * GAP]
        band[: inner.shape[0], GAP : GAP + inner.shape[1]] = inner
    return np.concatenate(parts)


def labelled_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    void: str = "",
    tile_width: int = 480,
    **texts: Any,
) -> np.ndarray:
    """Builds a `sheet` with the legend of the classes across its foot.

    palette: uint8 (k, 3). void: see `legend`. texts: captions, titles and heading of `sheet`.
    """
    width = sheet_width(max(map(len, rows)), tile_width) - 2 * GAP
    foot = legend(class_names, palette, width=width, void=void)
    return sheet(rows, foot=foot, tile_width=tile_width, **texts)


def sheet_width(columns: int, tile_width: int) -> int:
    """Returns the width of a sheet with its borders, pixels."""
    return columns * (tile_width + GAP) + GAP


def _to_width(tile: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(tile.shape[0] * width / tile.shape[1]))
    if tile.shape[1] == width:
        return tile
    return cv2.resize(
        tile, (width, height), interpolation=cv2.INTER_AREA if tile.shape[1] > width else cv2.INTER_LINEAR
    )
