"""Two-dimensional convolution with PyTorch semantics; the one place that decides how a convolution is computed.

XLA's convolution is the right choice on GPU and TPU. On CPU it is slow outside its fast path, so that there
depthwise kernels run as shifted multiply-adds and 1x1 kernels as a matrix product.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from segjax.typing import Array

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: Array | None = None,
) -> Array:
    """Cross-correlation of x (b, h, w, c) with kernel (kh, kw, c / groups, d) -> (b, h', w', d), as torch.nn.Conv2d.

    padding: pixels on every side, ((top, bottom), (left, right)), or "same" for TensorFlow's size-dependent padding.
    bias: (d,) or None.
    """
    stride, dilation = _pair(stride), _pair(dilation)
    pads = _pads(padding, x.shape[1:3], kernel.shape[:2], stride, dilation)
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and groups == x.shape[-1] == kernel.shape[-1] and groups > 1:
        out = _depthwise(x, kernel, stride, pads, dilation)
    elif on_cpu and kernel.shape[:2] == (1, 1) and groups == 1 and pads == ((0, 0), (0, 0)):
        out = _pointwise(x, kernel, stride)
    else:
        out = lax.conv_general_dilated(
            x, kernel, stride, pads, rhs_dilation=dilation, feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
    return out if bias is None else out + bias


def conv_transpose2d(x: Array, kernel: Array, *, stride: int = 2, padding: int = 0, bias: Array | None = None) -> Array:
    """torch ConvTranspose2d: x (b, h, w, c), kernel (kh, kw, c, d) -> (b, (h - 1) stride - 2 padding + kh, .., d)."""
    pads = [(k - 1 - padding, k - 1 - padding) for k in kernel.shape[:2]]
    out = lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out if bias is None else out + bias


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _pads(padding: Padding, size, kernel, stride, dilation) -> Pads:
    if padding == "same":  # TensorFlow SAME: the output has ceil(size / stride) pixels, the odd pixel goes to the end
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in zip(size, kernel, stride, dilation)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple((int(before), int(after)) for before, after in padding)


def _pointwise(x: Array, kernel: Array, stride: tuple[int, int]) -> Array:
    """One matrix product over all pixels: XLA's own 1x1 convolution needs six times as long for the kernel gradient."""
    if stride != (1, 1):
        x = x[:, :: stride[0], :: stride[1]]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])


def _merged(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """Pads (or crops, where negative) the sides of x and merges columns with channels, so that inner loops are long.

    The barrier keeps XLA from computing the producer of x once per tap.
    """
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))
    return lax.optimization_barrier(x.reshape(*x.shape[:2], -1))


def _taps(x: Array, shape: tuple[int, int], kernel, stride, pads: Pads, dilation) -> list[Array]:
    """The kh * kw shifted views (b, h', w' * c) of padded x.

    With a stride, the columns are first split into their phases, which makes every view contiguous along a row.
    """
    b, h, w, c = x.shape
    (ho, wo), (kh, kw), (sh, sw), (dh, dw) = shape, kernel, stride, dilation
    rows, columns = (ho - 1) * sh + (kh - 1) * dh + 1, (wo - 1) * sw + (kw - 1) * dw + 1
    columns += -columns % sw
    (top, _), (left, _) = pads
    x = _merged(x, (top, rows - h - top), (left, columns - w - left))
    phases = [x]
    if sw > 1:
        split = x.reshape(b, rows, columns // sw, sw, c)
        phases = lax.optimization_barrier([split[:, :, :, i].reshape(b, rows, -1) for i in range(sw)])
    views = []
    for i in range(kh):
        for j in range(kw):
            phase, start = (j * dw) % sw, (j * dw) // sw * c
            views.append(phases[phase][:, i * dh : i * dh + (ho - 1) * sh + 1 : sh, start : start + wo * c])
    return views


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    """Depthwise convolution as kh * kw shifted multiply-adds."""
    (b, h, w, c), size = x.shape, kernel.shape[:2]
    ho, wo = ((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, k, s, d in zip((h, w), pads, size, stride, dilation))
    weights = jnp.tile(kernel.reshape(-1, c), (1, wo))
    taps = _taps(x, (ho, wo), size, stride, pads, dilation)
    return sum(tap * weight for tap, weight in zip(taps, weights)).reshape(b, ho, wo, c)


def _depthwise_forward(x, kernel, stride, pads, dilation):
    return _depthwise(x, kernel, stride, pads, dilation), (x, kernel)


def _depthwise_backward(stride, pads, dilation, saved, dy):
    x, kernel = saved
    dx = _depthwise_dx(dy, kernel, x.shape, stride, pads, dilation)
    return dx, _depthwise_dk(x, dy, kernel, stride, pads, dilation)


def _depthwise_dx(dy: Array, kernel: Array, shape, stride, pads: Pads, dilation) -> Array:
    """Pixel r of padded x gathers dy[(r - i * dilation) / stride] * kernel[i]: one stride-1 sum for each phase of r."""
    (b, h, w, c), (ho, wo) = shape, dy.shape[1:3]
    (kh, kw), (sh, sw), (dh, dw), ((top, _), (left, _)) = kernel.shape[:2], stride, dilation, pads
    first_row, first_column = top // sh, left // sw
    rows, columns = -(-(top + h) // sh) - first_row, -(-(left + w) // sw) - first_column
    above, before = (kh - 1) * dh // sh, (kw - 1) * dw // sw
    below, after = first_row + rows - ho, first_column + columns - wo
    dy = _merged(dy, (above - first_row, below), (before - first_column, after))

    def phase(a: int, d: int) -> Array:
        total = jnp.zeros((b, rows, columns * c), dy.dtype)
        for i in range(kh):
            for j in range(kw):
                if (i * dh) % sh == a and (j * dw) % sw == d:
                    r, q = above - i * dh // sh, (before - j * dw // sw) * c
                    total += dy[:, r : r + rows, q : q + columns * c] * jnp.tile(kernel[i, j, 0], columns)
        return total.reshape(b, rows, columns, c)

    phases = [[phase(a, d) for d in range(sw)] for a in range(sh)]
    if (sh, sw) == (1, 1):
        return phases[0][0]
    phases = lax.optimization_barrier(phases)
    lines = [jnp.stack(row, 3).reshape(b, rows, 1, columns * sw, c) for row in phases]
    dx = jnp.concatenate(lines, 2).reshape(b, rows * sh, columns * sw, c)
    top, left = top - first_row * sh, left - first_column * sw
    return dx[:, top : top + h, left : left + w]


def _depthwise_dk(x: Array, dy: Array, kernel: Array, stride, pads: Pads, dilation, parts: int = 4) -> Array:
    """Products of every tap with dy, added over `parts` pieces of a row in one elementwise pass, then reduced."""
    (b, ho, wo, c), size = dy.shape, kernel.shape[:2]
    wide = -wo % parts
    dy = _merged(dy, (0, 0), (0, wide))
    taps = _taps(x, (ho, wo + wide), size, stride, pads, dilation)
    step = dy.shape[-1] // parts
    pieces = [slice(i * step, (i + 1) * step) for i in range(parts)]
    sums = jnp.stack([sum(tap[..., q] * dy[..., q] for q in pieces) for tap in taps])
    sums = sums.reshape(len(taps), -1, c).sum(1, dtype=jnp.promote_types(x.dtype, jnp.float32))
    return sums.reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
