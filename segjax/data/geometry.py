"""The place of a crop in its image, and the window of pixels that the device needs to make it.

Rows and columns are independent of each other, so most functions are for one axis. Positions are pixel edges: pixel i
covers i .. i + 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from segjax.errors import UserError


class Span(NamedTuple):
    """A crop along one axis. start: first pixel of the window; low, high: edges of the box in the window."""

    start: int
    low: float
    high: float


def window_size(crop: tuple[int, int], scale_range: tuple[float, float], sizes: np.ndarray) -> tuple[int, int]:
    """Returns the (h, w) that holds the source pixels of any crop, at most that of the largest image.

    crop: (h, w) of the result, in pixels.
    scale_range: (smallest, largest) factor that images are enlarged by.
    sizes: (n, 2), height and width of the images in pixels.

    Raises UserError for a scale_range that is not two factors above 0, the smaller first.
    """
    smallest, largest = scale_range
    if not 0 < smallest <= largest < math.inf:
        raise UserError(
            f"crop.scale_range={tuple(scale_range)} must be two factors above 0, the smaller first, like (0.5, 2.0)."
        )
    # 1e-6: 320 / 0.1 must not become 3201 pixels
    height, width = (
        min(math.ceil(side / smallest - 1e-6), int(largest_side))
        for side, largest_side in zip(crop, np.asarray(sizes).max(axis=0))
    )
    return max(height, 1), max(width, 1)


def place_box(rng: np.random.Generator, *, side: int, crop: int, scale: float, centroid: int | None = None) -> float:
    """Draws the first edge of a crop's box, which covers crop / scale pixels of an image of `side` pixels.

    If the box is larger than the image, the image lies in its middle (VPLR and LDN pad both sides alike). Otherwise
    every place inside the image is equally likely. With a centroid, these are the places that show this pixel whole
    (VPLR: position uniform, then moved into the image). A box starts at whole pixels, or ends at the image's last
    pixel, so that scale 1 copies pixels.
    """
    box = crop / scale
    room = side - box
    if room <= 0:
        return -round(-room / 2)
    if centroid is None:
        low, high = 0, math.ceil(room)
    else:
        low, high = math.ceil(centroid + 1 - box), centroid
        if low > high:  # the box is smaller than a pixel's width
            return min(max(centroid + 0.5 - box / 2, 0.0), room)
    return float(min(max(int(rng.integers(low, high, endpoint=True)), 0), room))


def place_window(*, side: int, window: int, first: float, box: float) -> int:
    """Returns the first pixel of a window of `window` pixels around the box first .. first + box.

    The window lies inside the image if it fits. Its pixels beyond the box are divided between both ends, because
    filters that shrink an image read a little beyond the box.
    """
    low, high = max(math.floor(first + 1e-6), 0), min(math.ceil(first + box - 1e-6), side)
    slack = window - (high - low)
    return max(min(low - slack // 2, side - window), 0)


def place(
    rng: np.random.Generator, *, side: int, crop: int, scale: float, window: int, centroid: int | None = None
) -> Span:
    """Draws a crop along one axis with `place_box`, and places its window with `place_window`."""
    first = place_box(rng, side=side, crop=crop, scale=scale, centroid=centroid)
    start = place_window(side=side, window=window, first=first, box=crop / scale)
    return Span(start, first - start, first - start + crop / scale)


def draw_crop(
    size: tuple[int, int],
    *,
    crop: tuple[int, int],
    window: tuple[int, int],
    scale_range: tuple[float, float],
    centroid: tuple[int, int] | None,
    rng: np.random.Generator,
) -> tuple[Span, Span]:
    """Draws a scale and the place of a crop, and returns where crop and window lie: (rows, columns).

    size: (h, w) of the image in pixels.
    crop, scale_range: as in `window_size`, whose result is `window`.
    centroid: (y, x) of a pixel that the crop must show; None = anywhere.
    """
    scale = rng.uniform(*scale_range)
    rows, columns = (
        place(rng, side=size[axis], crop=crop[axis], scale=scale, window=window[axis], centroid=c)
        for axis, c in enumerate(centroid or (None, None))
    )
    return rows, columns


def cut(array: np.ndarray, start: tuple[int, int], window: tuple[int, int], *, fill: int) -> np.ndarray:
    """Returns a copy of a window (h, w) of an array (h, w, ...), `fill` below and right of the array's end."""
    part = array[start[0] : start[0] + window[0], start[1] : start[1] + window[1]]
    if part.shape[:2] == tuple(window):
        return part.copy()  # a view would keep the whole image in memory
    result = np.full((*window, *array.shape[2:]), fill, array.dtype)
    result[: part.shape[0], : part.shape[1]] = part
    return result
