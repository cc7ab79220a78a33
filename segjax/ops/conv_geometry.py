"""Sizes and padding of convolutions, for their lowerings.

Along one axis, `size` is the pixels of the input, `taps` those of the kernel, and `pads` the padding (before, after).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from segjax.typing import Array

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Returns (value, value) of a number, and a pair as a tuple."""
    return (value, value) if isinstance(value, int) else tuple(value)


def pads_of(padding: Padding, size, kernel, stride, dilation) -> Pads:
    """Returns the pixels of padding ((top, bottom), (left, right))."""
    if (
        padding == "same"
    ):  # TensorFlow SAME: the output has ceil(size / stride) pixels; an odd pixel is added at the end
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in zip(size, kernel, stride, dilation)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple((int(before), int(after)) for before, after in padding)


def tap_outputs(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> list[range]:
    """Returns for each tap of one axis the output pixels for which it reads the input, not padding."""
    outputs = (size + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
    offsets = [tap * dilation - pads[0] for tap in range(taps)]
    return [range(max(-(o // stride), 0), min((size - 1 - o) // stride + 1, outputs)) for o in offsets]


def seen_share(x: tuple[int, ...], kernel: tuple[int, ...], stride, pads: Pads, dilation) -> float:
    """Returns the share of a convolution's products that are not with padding, 0..1.

    x, kernel: shapes (b, h, w, c) and (kh, kw, c, d).
    """
    share = 1.0
    for size, taps, *rest in zip(x[1:3], kernel, pads, stride, dilation):
        seen = tap_outputs(size, taps, *rest)
        outputs = (size + sum(rest[0]) - rest[2] * (taps - 1) - 1) // rest[1] + 1
        share *= sum(map(len, seen)) / (taps * max(outputs, 1))
    return share


def tap_inputs(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> list[slice]:
    """Returns for each tap of one axis the input pixels that it reads for its `tap_outputs`."""
    seen = tap_outputs(size, taps, pads, stride, dilation)
    first = [outputs.start * stride + tap * dilation - pads[0] for tap, outputs in enumerate(seen)]
    return [slice(start, start + max(len(outputs) * stride, 0), stride) for start, outputs in zip(first, seen)]


def seen_taps(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> tuple[slice, tuple[int, int]]:
    """Returns the taps of one axis that read any pixel of the input, and the pads of a kernel of these taps alone.

    A 3x3 kernel dilated by 24 has one such row of taps on an input of 16 rows; the others read only padding.
    """
    seen = [tap for tap, outputs in enumerate(tap_outputs(size, taps, pads, stride, dilation)) if outputs]
    if seen:
        fewer = (pads[0] - seen[0] * dilation, pads[1] - (taps - 1 - seen[-1]) * dilation)
        if min(fewer) >= 0:
            return slice(seen[0], seen[-1] + 1), fewer
    return slice(0, taps), pads


def surplus_rows(size: int, taps: int, pads: tuple[int, int], stride: int, dilation: int) -> int:
    """Returns the padding to add at the end for an output of ceil(size / stride) pixels, 0 for stride 1."""
    needed = (-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1
    return max(needed - size - sum(pads), 0) if stride > 1 else 0


def pad(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """Pads the sides of x (b, h, w, c) with zeros, or crops them if negative; rows, columns: (before, after)."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


def output_size(x: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> tuple[int, int]:
    """Returns (h, w) of the output of a convolution of x (b, h, w, c)."""
    sizes = zip(x.shape[1:3], kernel, stride, pads, dilation)
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
