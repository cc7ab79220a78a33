"""Pooling with PyTorch semantics on (b, h, w, c)."""

from __future__ import annotations

import functools
import itertools
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.conv_geometry import pair
from segjax.ops.platform import platform
from segjax.typing import Array


def _pads(size: int, window: int, stride: int, padding: int, ceil_mode: bool) -> tuple[int, int]:
    """Returns the pixels of padding (before, after) along one axis.

    ceil_mode: keep a last window that starts inside the image or the padding before it.
    """
    out = (size + 2 * padding - window) // stride + 1
    if ceil_mode:
        out = -(-(size + 2 * padding - window) // stride) + 1
        if (out - 1) * stride >= size + padding:
            out -= 1
    return padding, max((out - 1) * stride + window - size - padding, 0)


def _geometry(x, window, stride, padding, ceil_mode):
    window = pair(window)
    stride = window if stride is None else pair(stride)
    pads = tuple(_pads(n, k, s, p, ceil_mode) for n, k, s, p in zip(x.shape[1:3], window, stride, pair(padding)))
    return (1, *window, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0))


def max_pool(
    x: Array,
    window: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    *,
    ceil_mode: bool = False,
) -> Array:
    """Returns the largest value of each window of x (b, h, w, c), padded with -inf, as torch max_pool2d.

    window, stride, padding: pixels; stride defaults to window.
    ceil_mode: keep a last window that extends beyond the padded image.
    """
    geometry = _geometry(x, window, stride, padding, ceil_mode)
    return _max_on_cpu(x, geometry) if platform() == "cpu" else _max_pool(x, geometry)


def _max_pool(x, geometry):
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return lax.reduce_window(x, np.asarray(lowest, x.dtype), lax.max, *geometry)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_on_cpu(x, geometry):
    """Returns the result of `_max_pool`, with the same gradient in a fifth of the time and a twentieth of the memory.

    XLA's own gradient makes four index arrays of x's size on the CPU.
    """
    return _max_pool(x, geometry)


def _max_forward(x, geometry):
    y = _max_pool(x, geometry)
    return y, (x, y)


def _max_backward(geometry, saved, dy):
    (x, y), ((_, *window, _), (_, *strides, _), (_, *pads, _)) = saved, geometry
    sides = y.shape[1:3]
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    taps = list(itertools.product(*map(range, window)))
    first = jnp.full(y.shape, len(taps), jnp.uint8)  # tap of the first largest value, to which the gradient goes
    for number, tap in reversed(list(enumerate(taps))):
        rows, columns = (slice(k, k + (m - 1) * step + 1, step) for k, m, step in zip(tap, sides, strides))
        first = jnp.where(padded[:, rows, columns] == y, jnp.uint8(number), first)
    parts = []
    for number, tap in reversed(list(enumerate(taps))):  # in which XLA adds the gradients of overlapping windows
        around = [
            (k, n - k - (m - 1) * step - 1, step - 1) for k, n, m, step in zip(tap, padded.shape[1:3], sides, strides)
        ]
        own = jnp.where(first == number, dy, 0)
        parts.append(lax.pad(own, np.zeros((), dy.dtype), [(0, 0, 0), *around, (0, 0, 0)]))
    dx = functools.reduce(jnp.add, parts)
    (top, _), (left, _) = pads
    return (dx[:, top : top + x.shape[1], left : left + x.shape[2]],)


_max_on_cpu.defvjp(_max_forward, _max_backward)


def avg_pool(
    x: Array,
    window: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    *,
    count_include_pad: bool = True,
) -> Array:
    """Returns the mean of each window of x (b, h, w, c), as torch avg_pool2d.

    window, stride, padding: pixels; stride defaults to window.
    count_include_pad: divide by the whole window (torch's default) instead of by the pixels inside the image.
    """
    geometry = _geometry(x, window, stride, padding, False)
    total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, *geometry)
    if count_include_pad:
        return total / np.prod(geometry[0])
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return total / lax.reduce_window(ones, np.zeros((), x.dtype), lax.add, *geometry)


def bin_edges(size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first pixel and the end of the bins of `adaptive_avg_pool` along one axis, int64 (out,) each.

    Bin i covers pixels floor(i size / out) .. ceil((i + 1) size / out) - 1, so that bins may overlap.

    size: pixels.
    out: number of bins.
    """
    i = np.arange(out)
    return i * size // out, -(-(i + 1) * size // out)


@lru_cache(maxsize=256)
def _bins(size: int, out: int) -> np.ndarray:
    """Returns the weights of the pixels in each bin's mean, (out, size)."""
    first, end = (edges[:, None] for edges in bin_edges(size, out))
    pixel = np.arange(size)[None]
    inside = (pixel >= first) & (pixel < end)
    return inside / inside.sum(1, keepdims=True)


def adaptive_avg_pool(x: Array, size: int | tuple[int, int]) -> Array:
    """Returns the means of size[0] x size[1] bins that cover x (b, h, w, c), as torch adaptive_avg_pool2d."""
    out_h, out_w = pair(size)
    if (out_h, out_w) == (1, 1):
        return x.mean((1, 2), keepdims=True)
    rows, columns = (jnp.asarray(_bins(n, m), x.dtype) for n, m in zip(x.shape[1:3], (out_h, out_w)))
    x = jnp.einsum("oh,bhwc->bowc", rows, x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("pw,bowc->bopc", columns, x, precision=lax.Precision.HIGHEST)
