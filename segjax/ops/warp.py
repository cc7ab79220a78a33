"""Sampling an image at real-valued positions: motion-compensated warping (resample2d) and grid sampling."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from segjax.typing import Array

Method = Literal["bilinear", "nearest"]
Border = Literal["replicate", "zeros"]


def _sample(image: Array, x: Array, y: Array, method: Method, border: Border) -> Array:
    """Returns the values (..., c) of one image (h, w, c) at pixel positions x, y (...)."""
    h, w = image.shape[:2]

    def pixel(row: Array, column: Array) -> Array:
        value = image[jnp.clip(row, 0, h - 1), jnp.clip(column, 0, w - 1)]
        if border == "zeros":
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            value = jnp.where(inside[..., None], value, jnp.zeros((), value.dtype))
        return value

    # values are constant from one pixel outside on, and huge displacements would overflow the integer index
    x, y = jnp.clip(x, -2.0, w + 1.0), jnp.clip(y, -2.0, h + 1.0)
    if method == "nearest":
        return pixel(jnp.floor(y + 0.5).astype(jnp.int32), jnp.floor(x + 0.5).astype(jnp.int32))
    x0, y0 = jnp.floor(x), jnp.floor(y)
    a, b = (x - x0)[..., None], (y - y0)[..., None]
    column, row = x0.astype(jnp.int32), y0.astype(jnp.int32)
    top = (1 - a) * pixel(row, column) + a * pixel(row, column + 1)
    bottom = (1 - a) * pixel(row + 1, column) + a * pixel(row + 1, column + 1)
    return (1 - b) * top + b * bottom


def _check(method: str, border: str) -> None:
    if method not in ("bilinear", "nearest"):
        raise ValueError(f"method={method!r}; choose bilinear or nearest")
    check_border(border)


def check_border(border: str) -> None:
    """Raises ValueError for an unknown border."""
    if border not in ("replicate", "zeros"):
        raise ValueError(f"border={border!r}; choose replicate or zeros")


def flow_positions(image: Array, flow: Array) -> tuple[Array, Array]:
    """Returns the columns and rows (b, h, w), in pixels, that a flow (b, h, w, 2) points to in an image (b, h, w, c).

    Raises ValueError if sizes differ.
    """
    if image.shape[:3] != flow.shape[:3] or flow.shape[-1] != 2:
        raise ValueError(f"a warp's image {image.shape} and flow {flow.shape} must be (b, h, w, c) and (b, h, w, 2)")
    h, w = image.shape[1:3]
    flow = flow.astype(jnp.promote_types(flow.dtype, jnp.float32))
    return jnp.arange(w, dtype=flow.dtype) + flow[..., 0], jnp.arange(h, dtype=flow.dtype)[:, None] + flow[..., 1]


def bilinear_warp(image: Array, flow: Array, *, method: Method = "bilinear", border: Border = "replicate") -> Array:
    """Warps an image by optical flow; returns (b, h, w, c) with output(x, y) = image(x + u, y + v).

    Pixel centres are at integers, as in resample2d of FlowNet2. Differentiable in image and, if bilinear, in flow.

    image: (b, h, w, c).
    flow: (b, h, w, 2), (u, v) in pixels.
    method: "bilinear" returns float32, or the image's wider float type. "nearest" rounds half up and keeps the image's
        dtype, so that labels can be warped.
    border: "replicate" repeats the edge pixel; "zeros" counts pixels outside the image as 0.

    Raises ValueError if sizes differ, or for an unknown method or border.
    """
    _check(method, border)
    x, y = flow_positions(image, flow)
    # vmap, because a gather with explicit batch indices would all-gather a sharded batch
    return jax.vmap(lambda i, x, y: _sample(i, x, y, method, border))(image, x, y)


def grid_sample(
    image: Array, grid: Array, *, method: Method = "bilinear", border: Border = "zeros", align_corners: bool = True
) -> Array:
    """Samples an image at the points of a grid; returns (b, h', w', c), as torch grid_sample.

    image: (b, h, w, c).
    grid: (b, h', w', 2), (x, y) in -1..1.
    method, border: as for `bilinear_warp`.
    align_corners: -1 and 1 are the centres of the corner pixels (True) or the outer edges of the image (False).

    Raises ValueError for an unknown method or border.
    """
    _check(method, border)
    h, w = image.shape[1:3]
    grid = grid.astype(jnp.promote_types(grid.dtype, jnp.float32))
    size = jnp.asarray([w, h], grid.dtype)
    points = (grid + 1) / 2 * (size - 1) if align_corners else ((grid + 1) * size - 1) / 2
    return jax.vmap(lambda i, p: _sample(i, p[..., 0], p[..., 1], method, border))(image, points)
