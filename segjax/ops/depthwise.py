"""Depthwise convolution on CPU: kh * kw shifted multiply-adds.

Columns and channels are merged, so that the innermost loop is a whole row. With a stride, columns are first split into
their phases (planes): every shifted view is then contiguous in a row.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from segjax.ops.conv_geometry import Pads, output_size, pad
from segjax.ops.fence import fenced
from segjax.ops.varying import like_argument
from segjax.typing import Array

_PARTS = 4


def _planes(x: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> list[Array]:
    """Returns padded x as one array (b, rows, columns * c) for each phase of the column stride."""
    b, h, w, c = x.shape
    (ho, wo), (top, left) = output_size(x, kernel, stride, pads, dilation), (pads[0][0], pads[1][0])
    wo += -wo % _PARTS
    rows = (ho - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1
    columns = (wo - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1
    columns += -columns % stride[1]
    x = pad(x, (top, rows - h - top), (left, columns - w - left))
    if stride[1] == 1:
        return [x.reshape(b, rows, -1)]
    x = x.reshape(b, rows, -1, stride[1], c)
    return [x[:, :, :, i].reshape(b, rows, -1) for i in range(stride[1])]


def _views(planes: list[Array], size: tuple[int, int], width: int, kernel: tuple[int, int], stride, dilation):
    """Yields the kh * kw shifted views (b, ho, width) of the planes; size: (ho, c)."""
    (ho, c), (kh, kw), (sh, sw), (dh, dw) = size, kernel, stride, dilation
    for i in range(kh):
        for j in range(kw):
            start = (j * dw) // sw * c
            plane = planes[(j * dw) % sw]
            yield plane[:, i * dh : i * dh + (ho - 1) * sh + 1 : sh, start : start + width]


@partial(fenced, static_argnums=(2, 3, 4))
def _depthwise_y(planes: list[Array], kernel: Array, size: tuple[int, int], stride, dilation) -> Array:
    (ho, wo), c = size, kernel.shape[-1]
    weights = jnp.tile(kernel.reshape(-1, c), (1, wo))
    views = _views(planes, (ho, c), wo * c, kernel.shape[:2], stride, dilation)
    return sum(view * weight for view, weight in zip(views, weights)).reshape(-1, ho, wo, c)


@partial(fenced, static_argnums=(2, 3, 4, 5))
def _depthwise_dx(dy: Array, kernel: Array, size: tuple[int, int], stride, pads: Pads, dilation) -> Array:
    """Returns the gradient of x (b, h, w, c); size: (h, w).

    At pixel r of padded x it is the sum over i of dy[(r - i * dilation) / stride] * kernel[i], which has stride 1 for
    each phase of r.
    """
    (h, w), (b, ho, wo, c) = size, dy.shape
    (kh, kw), (sh, sw), (dh, dw), ((top, _), (left, _)) = kernel.shape[:2], stride, dilation, pads
    first_row, first_column = top // sh, left // sw
    rows, columns = -(-(top + h) // sh) - first_row, -(-(left + w) // sw) - first_column
    above, before = (kh - 1) * dh // sh, (kw - 1) * dw // sw
    below, after = first_row + rows - ho, first_column + columns - wo
    dy = pad(dy, (above - first_row, below), (before - first_column, after))
    dy = dy.reshape(*dy.shape[:2], -1)

    def phase(a: int, d: int) -> Array:
        total = jnp.zeros((b, rows, columns * c), dy.dtype)
        for i in range(kh):
            for j in range(kw):
                if (i * dh) % sh == a and (j * dw) % sw == d:
                    r, q = above - i * dh // sh, (before - j * dw // sw) * c
                    total += dy[:, r : r + rows, q : q + columns * c] * jnp.tile(kernel[i, j, 0], columns)
        return total.reshape(b, rows, columns, c)

    if (sh, sw) == (1, 1):
        return phase(0, 0)
    lines = [jnp.stack([phase(a, d) for d in range(sw)], 3).reshape(b, rows, 1, columns * sw, c) for a in range(sh)]
    dx = jnp.concatenate(lines, 2).reshape(b, rows * sh, columns * sw, c)
    top, left = top - first_row * sh, left - first_column * sw
    return dx[:, top : top + h, left : left + w]


@partial(fenced, static_argnums=(2, 3, 4))
def _depthwise_dk(planes: list[Array], dy: Array, kernel: tuple[int, int], stride, dilation) -> Array:
    """Returns the kernel gradient (kh, kw, 1, c) in float32 or wider.

    Products of a view with dy are added over the quarters of a row in one elementwise pass, and then reduced.
    """
    _, ho, wo, c = dy.shape
    dy = pad(dy, (0, 0), (0, -wo % _PARTS))
    dy = dy.reshape(*dy.shape[:2], -1)
    step = dy.shape[-1] // _PARTS
    quarters = [slice(i * step, (i + 1) * step) for i in range(_PARTS)]
    views = _views(planes, (ho, c), dy.shape[-1], kernel, stride, dilation)
    sums = jnp.stack([sum(view[..., q] * dy[..., q] for q in quarters) for view in views])
    return sums.reshape(*kernel, -1, c).sum(2, dtype=jnp.promote_types(dy.dtype, jnp.float32))[:, :, None]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    """Returns the convolution (b, h', w', c) of x (b, h, w, c) with kernel (kh, kw, 1, c)."""
    return _depthwise_forward(x, kernel, stride, pads, dilation)[0]


def _depthwise_forward(x, kernel, stride, pads, dilation):
    planes = _planes(x, kernel.shape[:2], stride, pads, dilation)
    size = output_size(x, kernel.shape[:2], stride, pads, dilation)
    # only the shape of x is saved, as an array without values
    return _depthwise_y(planes, kernel, size, stride, dilation), (planes, kernel, jnp.zeros((*x.shape[1:3], 0)))


def _depthwise_backward(stride, pads, dilation, saved, dy):
    planes, kernel, empty = saved
    dx = _depthwise_dx(dy, kernel, empty.shape[:2], stride, pads, dilation)
    dk = _depthwise_dk(planes, dy, kernel.shape[:2], stride, dilation).astype(kernel.dtype)
    return dx, like_argument(dk, kernel)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
