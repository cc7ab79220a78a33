"""Pictures of optical flow."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from segjax.visualize.text import text_cover, write


@functools.cache
def _color_wheel() -> np.ndarray:
    """Returns the colours of the Middlebury flow wheel, float (55, 3) in 0..255 (Baker et al., IJCV 2011)."""
    steps = (
        ("R", 15, "G", 1),
        ("G", 6, "R", -1),
        ("G", 4, "B", 1),
        ("B", 11, "G", -1),
        ("B", 13, "R", 1),
        ("R", 6, "B", -1),
    )
    wheel, channel = [], {"R": 0, "G": 1, "B": 2}
    for full, count, moving, direction in steps:
        ramp = np.floor(255 * np.arange(count) / count)
        part = np.zeros((count, 3))
        part[:, channel[full]] = 255
        part[:, channel[moving]] = ramp if direction > 0 else 255 - ramp
        wheel.append(part)
    return np.concatenate(wheel)


def flow_to_color(flow: np.ndarray, *, max_motion: float | None = None) -> np.ndarray:
    """Colours a flow field: hue = direction, saturation = length; white = no motion, black = not finite.

    flow: (h, w, 2), u to the right and v down, pixels.
    max_motion: length of full saturation, pixels; longer vectors are darker. Default: the longest vector.
    Returns uint8 (h, w, 3).
    """
    finite = np.isfinite(flow).all(-1)
    u, v = np.where(finite[..., None], flow, 0).astype(np.float64).transpose(2, 0, 1)
    radius = np.hypot(u, v)
    limit = max_motion or float(radius.max()) or 1.0
    radius = radius / limit
    wheel = _color_wheel() / 255
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(position).astype(int)
    share = (position - low)[..., None]
    color = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    inside = (radius <= 1)[..., None]
    color = np.where(inside, 1 - radius[..., None] * (1 - color), 0.75 * color)
    return np.where(finite[..., None], np.floor(255 * color), 0).astype(np.uint8)


def wheel_legend(lines: Sequence[str], *, size: int = 64) -> np.ndarray:
    """Draws the legend of `flow_to_color`: a disc with the colour of every direction, and lines of text to its right.

    A pixel of the disc has the colour of the vector from the disc's centre to the pixel.

    size: diameter of the disc, pixels.
    Returns uint8 (size, w, 3).
    """
    steps = (np.arange(size) + 0.5) * 2 / size - 1
    vectors = np.stack(np.meshgrid(steps, steps), -1)
    outside = np.hypot(*vectors.transpose(2, 0, 1)) > 1
    disc = np.where(outside[..., None], 255, flow_to_color(vectors, max_motion=1.0)).astype(np.uint8)
    font = 13
    width = max(text_cover(line, font).shape[1] for line in lines)
    picture = np.full((size, size + 12 + width, 3), 255, np.uint8)
    picture[:, :size] = disc
    for i, line in enumerate(lines):
        write(picture, line, size + 12, (size - 20 * len(lines)) // 2 + 20 * i, size=font)
    return picture
