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


def tap_outputs(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> list[range]:
    """Along one axis, for each tap: the output pixels that see a pixel of the input through it, the others padding."""
    outputs = (size + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
    offsets = [tap * dilation - pads[0] for tap in range(taps)]
    return [range(max(-(o // stride), 0), min((size - 1 - o) // stride + 1, outputs)) for o in offsets]


def seen_share(x: tuple[int, ...], kernel: tuple[int, ...], stride, pads: Pads, dilation) -> float:
    """Share of the products of a convolution, shapes (b, h, w, c) and (kh, kw, c, d), that are not with padding."""
    share = 1.0
    for size, taps, *rest in zip(x[1:3], kernel, pads, stride, dilation):
        seen = tap_outputs(size, taps, *rest)
        outputs = (size + sum(rest[0]) - rest[2] * (taps - 1) - 1) // rest[1] + 1
        share *= sum(map(len, seen)) / (taps * max(outputs, 1))
    return share


def tap_inputs(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> list[slice]:
    """Along one axis, for each tap: the pixels of the input that `tap_outputs` see through it."""
    seen = tap_outputs(size, taps, pads, stride, dilation)
    first = [outputs.start * stride + tap * dilation - pads[0] for tap, outputs in enumerate(seen)]
    return [slice(start, start + max(len(outputs) * stride, 0), stride) for start, outputs in zip(first, seen)]


def seen_taps(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> tuple[slice, tuple[int, int]]:
    """Along one axis: the taps that some output pixel sees a pixel of the input through, and the pads without the rest.

    A 3x3 kernel dilated by 24 has one row of taps on an input 16 high; the others see padding only.
    """
    seen = [tap for tap, outputs in enumerate(tap_outputs(size, taps, pads, stride, dilation)) if outputs]
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
