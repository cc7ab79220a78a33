"""Sizes and padding of convolutions, for their lowerings."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.typing import Array

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """(value, value) of a number."""
    return (value, value) if isinstance(value, int) else tuple(value)


def pads_of(padding: Padding, size, kernel, stride, dilation) -> Pads:
    """Pixels before and behind, for rows and columns."""
    if padding == "same":  # TensorFlow SAME: the output has ceil(size / stride) pixels, the odd pixel goes to the end
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in zip(size, kernel, stride, dilation)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple((int(before), int(after)) for before, after in padding)


def seen_taps(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> tuple[slice, tuple[int, int]]:
    """Along one axis: the taps that some output pixel sees a pixel of the input through, and the pads without the rest.

    A 3x3 kernel dilated by 24 has one row of taps on an input 16 high; the others see padding only.
    """
    outputs = (size + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
    seen = []
    for tap in range(taps):
        offset = tap * dilation - pads[0]
        first = max(-(offset // stride), 0)  # the first output that is not left of the input there
        if first < outputs and first * stride + offset < size:
            seen.append(tap)
    if seen:
        fewer = (pads[0] - seen[0] * dilation, pads[1] - (taps - 1 - seen[-1]) * dilation)
        if min(fewer) >= 0:
            return slice(seen[0], seen[-1] + 1), fewer
    return slice(0, taps), pads


def pad(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """Pads (or crops, where negative) the sides of x (b, h, w, c) with zeros."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


def output_size(x: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> tuple[int, int]:
    """(h, w) of what a convolution gives."""
    sizes = zip(x.shape[1:3], kernel, stride, pads, dilation)
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
