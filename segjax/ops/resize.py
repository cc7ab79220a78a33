"""Image resizing with PyTorch semantics, as two small matrix products: differentiates and shards like any einsum.

On CPU, bilinear resizing without a gradient gathers and weights neighbouring pixels instead. On TPU the products keep
the channels before the pixels, as they do where several devices share an image.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax

from segjax.ops.platform import platform
from segjax.ops.row_parts import part_weights, product_by_parts, row_parts
from segjax.typing import Array

# the default is bfloat16 on TPU and TF32 on GPU, too coarse for interpolation weights
_PRECISION = lax.Precision.HIGHEST

Method = Literal["bilinear", "nearest", "bicubic"]


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0)


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel (1981)."""
    t = np.abs(t)
    inner = ((a + 2) * t - (a + 3)) * t * t + 1
    outer = a * (((t - 5) * t + 8) * t - 4)
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0))


def _scale(size: int, out: int, align_corners: bool, scale_factor: float | None) -> float:
    if align_corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return size / out if scale_factor is None else 1 / scale_factor


def _source(size: int, out: int, align_corners: bool, scale_factor: float | None) -> np.ndarray:
    """Returns the source coordinate of every output pixel, (out,) float64, not clamped."""
    scale = _scale(size, out, align_corners, scale_factor)
    return np.arange(out) * scale if align_corners else (np.arange(out) + 0.5) * scale - 0.5


@lru_cache(maxsize=512)
def resize_matrix(
    size: int, out: int, method: Method, align_corners: bool, antialias: bool, scale_factor: float | None = None
) -> np.ndarray:
    """Returns weights (out, size) float64 with y = matrix @ x along one axis.

    Source coordinate of output pixel i (torch ATen/native/UpSample.h): i * (size - 1) / (out - 1) with align_corners,
    else (i + 0.5) * size / out - 0.5, clamped to the image for bilinear. Taps outside the image repeat the edge.

    size, out: pixels of the input and of the output.
    method: "bilinear" or "bicubic".
    antialias: stretch the kernel when shrinking, cut it at the edge and renormalise it (Pillow; a = -0.5).
    scale_factor: as for `resize`.
    """
    scale = _scale(size, out, align_corners, scale_factor)
    index = np.arange(out)[:, None]
    tap = np.arange(size)[None]
    if antialias:
        stretch = max(scale, 1.0)
        support = (1 if method == "bilinear" else 2) * stretch
        centre = scale * (index + 0.5)
        low, high = (
            np.maximum((centre - support + 0.5).astype(int), 0),
            np.minimum((centre + support + 0.5).astype(int), size),
        )
        t = (tap - centre + 0.5) / stretch
        weights = _triangle(t) if method == "bilinear" else _cubic(t, -0.5)
        weights = np.where((tap >= low) & (tap < high), weights, 0)
        return weights / weights.sum(1, keepdims=True)
    source = _source(size, out, align_corners, scale_factor)[:, None]
    if method == "bilinear":
        return _triangle(np.clip(source, 0, size - 1) - tap)
    matrix = np.zeros((out, size))
    first = np.floor(source).astype(int)
    for offset in range(-1, 3):
        np.add.at(matrix, (index, np.clip(first + offset, 0, size - 1)), _cubic(source - (first + offset), -0.75))
    return matrix


def bilinear_taps(
    size: int, out: int, align_corners: bool, scale_factor: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (low, high, share) of every output pixel along one axis: y = x[low] * (1 - share) + x[high] * share.

    low, high: (out,) int32. share: (out,) float64. Arguments: see `resize_matrix`.
    """
    source = np.clip(_source(size, out, align_corners, scale_factor), 0, size - 1)
    low = source.astype(np.int32)
    return low, np.minimum(low + 1, size - 1), source - low


def nearest_indices(size: int, out: int) -> np.ndarray:
    """Returns the source index of every output pixel, floor(i * size / out) in float32 as torch computes it."""
    index = np.floor(np.arange(out, dtype=np.float32) * np.float32(size / out)).astype(np.int32)
    return np.minimum(index, size - 1)


def _rows(x: Array, matrix: np.ndarray) -> Array:
    """Returns matrix (o, h) @ the rows of x (n, h, w, c); one product per image keeps (w, c) together: 4x faster."""
    n, h, w, c = x.shape
    weights = jnp.broadcast_to(jnp.asarray(matrix, x.dtype), (n, *matrix.shape))
    return jnp.matmul(weights, x.reshape(n, h, w * c), precision=_PRECISION).reshape(n, -1, w, c)


def _columns(x: Array, matrix: np.ndarray) -> Array:
    """Returns matrix (p, w) @ the columns of x (n, h, w, c)."""
    return jnp.einsum("nhwc,pw->nhpc", x, jnp.asarray(matrix, x.dtype), precision=_PRECISION)


def _by_planes(x: Array, matrix: np.ndarray, axis: int) -> Array:
    """Returns matrix (o, size) @ x (n, c, h, w) along axis 2 or 3.

    For TPUs, which pad the last axis to 128 lanes: with few channels last, as logits have, XLA writes every full-size
    array of the loss and of its gradient several times, in other layouts (docs/speed.md). And for images whose rows are
    split over devices, see `row_parts`.
    """
    if axis == 2 and row_parts() > 1 and (parts := part_weights(matrix, row_parts())) is not None:
        return product_by_parts(x, parts, _PRECISION)
    weights = jnp.asarray(matrix, x.dtype)
    return jnp.einsum("nchw,oh->ncow" if axis == 2 else "nchw,pw->nchp", x, weights, precision=_PRECISION)


def _by_products(
    x: Array, size: tuple[int, int], method: Method, align_corners: bool, antialias: bool, scale_factor: float | None
) -> Array:
    """Returns x (n, h, w, c) resized to (n, *size, c), by one product along each axis."""
    (h, w), (out_h, out_w) = x.shape[1:3], size
    planes = platform() == "tpu" or row_parts() > 1
    columns, rows = (partial(_by_planes, axis=3), partial(_by_planes, axis=2)) if planes else (_columns, _rows)
    steps = [(columns, w, out_w), (rows, h, out_h)]
    # Rows first when they shrink, so that fewer pixels are left for the columns. Else columns first, so that the larger
    # of the two products is the batched one.
    if out_h < h:
        steps.reverse()
    x = rearrange(x, "n h w c -> n c h w") if planes else x
    for apply, old, new in steps:
        if old != new or scale_factor is not None:
            x = apply(x, resize_matrix(old, new, method, align_corners, antialias, scale_factor))
    return rearrange(x, "n c h w -> n h w c") if planes else x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _bilinear_on_cpu(x: Array, size: tuple[int, int], align_corners: bool, scale_factor: float | None) -> Array:
    """Returns x (n, h, w, c) resized to (n, *size, c), by two taps per axis: up to 9 times faster than products.

    When differentiated, the rules below use products: the gradient of the taps would be a slower scatter.
    """
    for axis in (1, 2):
        old, new = x.shape[axis], size[axis - 1]
        if old == new and scale_factor is None:
            continue
        low, high, share = bilinear_taps(old, new, align_corners, scale_factor)
        share = jnp.asarray(share.reshape((-1,) + (1,) * (3 - axis)), x.dtype)
        pick = partial(jnp.take, x, axis=axis, mode="clip")
        x = pick(low) * (1 - share) + pick(high) * share
    return x


def _bilinear_forward(x, size, align_corners, scale_factor):
    return jax.vjp(lambda y: _by_products(y, size, "bilinear", align_corners, False, scale_factor), x)


def _bilinear_backward(size, align_corners, scale_factor, backward, gradient):
    return backward(gradient)


_bilinear_on_cpu.defvjp(_bilinear_forward, _bilinear_backward)


def resize(
    x: Array,
    size: tuple[int, int],
    *,
    method: Method = "bilinear",
    align_corners: bool = False,
    antialias: bool = False,
    scale_factor: float | None = None,
) -> Array:
    """Resizes x (..., h, w, c) to (..., size[0], size[1], c), as torch.nn.functional.interpolate(size=size).

    x: integers become float32, unless method is "nearest".
    size: rows and columns of the result.
    method: "bilinear", "bicubic" (a = -0.75), or "nearest" (any dtype, values are only copied).
    align_corners: map the centres of the corner pixels to each other, instead of the outer edges.
    antialias: widen the kernel when shrinking (torch antialias=True, Pillow).
    scale_factor: sample on the grid of torch's interpolate(scale_factor=..). It differs from that of size / (h, w) if
        size = floor(scale_factor * (h, w)) was rounded.

    Raises ValueError for an unknown method, and for combinations that torch rejects.
    """
    if method not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"resize: method={method!r}; choose bilinear, bicubic or nearest")
    (h, w), (out_h, out_w) = x.shape[-3:-1], size
    if method == "nearest":
        if align_corners or antialias:
            raise ValueError("resize: method='nearest' takes neither align_corners nor antialias")
        if out_h != h:
            x = jnp.take(x, nearest_indices(h, out_h), axis=-3)
        return jnp.take(x, nearest_indices(w, out_w), axis=-2) if out_w != w else jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float32)

    lead = x.shape[:-3]
    x = x.reshape(-1, *x.shape[-3:])
    if method == "bilinear" and not antialias and platform() == "cpu":
        x = _bilinear_on_cpu(x, tuple(size), align_corners, scale_factor)
    else:
        x = _by_products(x, tuple(size), method, align_corners, antialias, scale_factor)
    return x.reshape(*lead, *x.shape[1:])
