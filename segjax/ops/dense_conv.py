"""Lowerings of convolutions over all channels, among which segjax/ops/conv.py chooses.

Shapes: x (b, h, w, c), kernel (kh, kw, c, d) -> (b, h', w', d). stride, dilation: (rows, columns).
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax

from segjax.ops.conv_geometry import Pads, output_size, pad, surplus_rows, tap_inputs, tap_outputs
from segjax.ops.fence import fenced
from segjax.ops.varying import like_argument
from segjax.typing import Array


def xla(x: Array, kernel: Array, stride, pads: Pads, dilation, groups: int = 1) -> Array:
    """Returns XLA's convolution, also in groups: kernel (kh, kw, c / groups, d)."""
    return lax.conv_general_dilated(
        x, kernel, stride, pads, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def even_rows(x: Array, kernel: Array, stride, pads: Pads, dilation, groups: int = 1) -> Array:
    """Returns XLA's convolution with ceil(h / stride) rows, of which the last are cut off again.

    For images whose rows are split over devices (`mesh.space`), and a strided convolution with fewer rows, such as an
    unpadded one: XLA would gather the whole input once for each row of the output to compute the kernel's gradient. In
    this form neighbours exchange a row.
    """
    (above, below), columns = pads
    rows, _ = output_size(x, kernel.shape[:2], stride, pads, dilation)
    more = surplus_rows(x.shape[1], kernel.shape[0], pads[0], stride[0], dilation[0])
    return xla(x, kernel, stride, ((above, below + more), columns), dilation, groups)[:, :rows]


def pointwise(x: Array, kernel: Array, stride: tuple[int, int]) -> Array:
    """Returns a 1x1 convolution by one product over all pixels; XLA's takes 6 times as long for the kernel gradient."""
    if stride != (1, 1):
        x = x[:, :: stride[0], :: stride[1]]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])


@partial(fenced, static_argnums=(1, 2, 3))
def _patches(x: Array, kernel: tuple[int, int], stride, pads: Pads) -> Array:
    """Returns the windows of x as rows of a matrix (b * ho * wo, kh * kw * c), for a few channels and no dilation.

    kw * c values of a window are neighbours in a row of x, and are copied together.
    """
    (b, _, _, c), (kh, kw), (sh, sw) = x.shape, kernel, stride
    ho, wo = output_size(x, kernel, stride, pads, (1, 1))
    pieces = -(-kw // sw)
    rows, columns = (ho - 1) * sh + kh, (wo + pieces - 1) * sw
    (top, _), (left, _) = pads
    x = pad(x, (top, rows - x.shape[1] - top), (left, columns - x.shape[2] - left))
    x = x.reshape(b, rows, columns * c)
    x = jnp.stack([x[:, i : i + (ho - 1) * sh + 1 : sh] for i in range(kh)], 2)
    x = x.reshape(b, ho, kh, -1, sw * c)
    x = jnp.concatenate([x[:, :, :, i : i + wo, : (kw - i * sw) * c] for i in range(pieces)], -1)
    return rearrange(x, "b ho kh wo row -> (b ho wo) (kh row)")


@partial(fenced, static_argnums=(2, 3, 4, 5))
def _dense_dk(x: Array, dy: Array, kernel: tuple[int, int], stride, pads: Pads, dilation) -> Array:
    """Returns the kernel gradient (kh, kw, c, d), by one matrix product of shifted x with dy for each tap."""
    c, (_, ho, wo, d) = x.shape[-1], dy.shape
    (top, bottom), (left, right) = pads
    x = pad(x, (top, max(bottom, 0)), (left, max(right, 0)))
    dy = dy.reshape(-1, d)

    def product(tap: Array) -> Array:
        size = x.shape[0], (ho - 1) * stride[0] + 1, (wo - 1) * stride[1] + 1, c
        first = jnp.zeros((), tap.dtype)  # all of one type, also in double precision
        view = lax.dynamic_slice(x, (first, tap[0], tap[1], first), size)[:, :: stride[0], :: stride[1]]
        return view.reshape(-1, c).T @ dy

    # a loop: written out, the shifted copies of x for all taps exist at the same time
    starts = np.indices(kernel).reshape(2, -1).T * np.asarray(dilation)
    return lax.map(product, jnp.asarray(starts, jnp.int32)).reshape(*kernel, c, d)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def windows(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    """Returns the product of copied windows with the kernel; the kernel gradient is such a product too.

    For a few channels; dilation must be (1, 1).
    """
    size = output_size(x, kernel.shape[:2], stride, pads, dilation)
    y = _patches(x, kernel.shape[:2], stride, pads) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(x.shape[0], *size, -1)


def _windows_forward(x, kernel, stride, pads, dilation):
    return windows(x, kernel, stride, pads, dilation), (x, kernel)


def _windows_backward(stride, pads, dilation, saved, dy):
    x, kernel = saved
    dx = jax.vjp(lambda x: xla(x, kernel, stride, pads, dilation), x)[1](dy)[0]
    dk = _patches(x, kernel.shape[:2], stride, pads).T @ dy.reshape(-1, kernel.shape[-1])
    return dx, like_argument(dk.reshape(kernel.shape), kernel)


windows.defvjp(_windows_forward, _windows_backward)


@partial(fenced, static_argnums=(2, 3, 4))
def shifted(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    """Returns the sum of one product for each tap with only the pixels that it reads: no products with padding."""
    ho, wo = output_size(x, kernel.shape[:2], stride, pads, dilation)
    axes = list(zip(x.shape[1:3], kernel.shape, pads, stride, dilation))
    (down, right), (above, beside) = ([find(*axis) for axis in axes] for find in (tap_outputs, tap_inputs))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = jnp.zeros((x.shape[0], ho, wo, kernel.shape[-1]), wide)
    for i, j in itertools.product(range(kernel.shape[0]), range(kernel.shape[1])):
        rows, columns = down[i], right[j]
        if rows and columns:
            view = x[:, above[i], beside[j]]
            product = jnp.einsum("bhwc, cd -> bhwd", view, kernel[i, j], preferred_element_type=wide)
            y += pad(product, (rows[0], ho - 1 - rows[-1]), (columns[0], wo - 1 - columns[-1]))
    return y.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def taps(x: Array, kernel: Array, stride, pads: Pads, dilation) -> Array:
    """Returns XLA's convolution, with a kernel gradient by one product for each tap."""
    return xla(x, kernel, stride, pads, dilation)


def _taps_forward(x, kernel, stride, pads, dilation):
    return taps(x, kernel, stride, pads, dilation), (x, kernel)


def _taps_backward(stride, pads, dilation, saved, dy):
    x, kernel = saved
    dx = jax.vjp(lambda x: xla(x, kernel, stride, pads, dilation), x)[1](dy)[0]
    return dx, like_argument(_dense_dk(x, dy, kernel.shape[:2], stride, pads, dilation), kernel)


taps.defvjp(_taps_forward, _taps_backward)
