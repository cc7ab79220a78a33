"""Warping with kernels that keep more of the high frequencies than bilinear interpolation: bicubic and Lanczos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from segjax.ops.warp import Border, check_border, flow_positions
from segjax.typing import Array

Kernel = Literal["bicubic", "lanczos"]


def _bicubic(fraction: Array) -> list[Array]:
    """Returns the weights of the pixels -1, 0, 1, 2: cubic convolution (Keys, IEEE TASSP 1981, eq. 15), a = -0.5."""
    near = [(1.5 * d - 2.5) * d * d + 1.0 for d in (fraction, 1.0 - fraction)]
    far = [((-0.5 * d + 2.5) * d - 4.0) * d + 2.0 for d in (fraction + 1.0, 2.0 - fraction)]
    return [far[0], near[0], near[1], far[1]]


def _lanczos(fraction: Array) -> list[Array]:
    """Returns the weights of the pixels -2 to 3: a sinc windowed by the middle of another (Duchon 1979), with sum 1.

    The weight at the distance d is sinc(d) sinc(d / 3) = 3 sin(pi d) sin(pi d / 3) / (pi d)^2. All sin(pi d) are equal
    up to the sign and cancel in the division by the sum. After three pixels sin(pi d / 3) repeats with the other sign.
    """
    fraction = jnp.maximum(fraction, 1e-6)  # no 0 / 0; there the weights are 0 and 1 up to rounding
    a, b, c = (jnp.sin(jnp.pi / 3 * (fraction - pixel)) for pixel in range(3))
    weights = [(a, -b, c)[pixel % 3] / jnp.square(fraction - pixel) for pixel in range(-2, 4)]
    total = sum(weights)
    return [weight / total for weight in weights]


# kernel -> (pixels that it reads on either side, the weights of these at a fraction of a pixel, 0 <= fraction < 1)
_KERNELS: dict[str, tuple[int, Callable[[Array], list[Array]]]] = {"bicubic": (2, _bicubic), "lanczos": (3, _lanczos)}


def _sample(image: Array, x: Array, y: Array, kernel: Kernel, border: Border) -> Array:
    """Returns the values (..., c) of one image (h, w, c) at pixel positions x, y (...)."""
    h, w = image.shape[:2]
    reach, weights = _KERNELS[kernel]
    # values are constant from `reach` pixels outside on, and huge displacements would overflow the integer index
    x, y = (jnp.clip(p, -reach - 1.0, size + reach) for p, size in ((x, w), (y, h)))
    x0, y0 = jnp.floor(x), jnp.floor(y)
    taps = range(1 - reach, reach + 1)
    across, down = ([weight[..., None] for weight in weights(p)] for p in (x - x0, y - y0))
    columns = [x0.astype(jnp.int32) + tap for tap in taps]
    if border == "zeros":
        across = [a * ((c >= 0) & (c < w))[..., None] for a, c in zip(across, columns)]
    out = jnp.zeros((), x.dtype)
    for tap, share in zip(taps, down):
        row = y0.astype(jnp.int32) + tap
        if border == "zeros":
            share = share * ((row >= 0) & (row < h))[..., None]
        row = jnp.clip(row, 0, h - 1)
        out += share * sum(a * image[row, jnp.clip(c, 0, w - 1)] for a, c in zip(across, columns))
    return out


def kernel_warp(image: Array, flow: Array, *, kernel: Kernel = "bicubic", border: Border = "replicate") -> Array:
    """Warps an image by optical flow; returns (b, h, w, c) with output(x, y) = image(x + u, y + v).

    The result is float32, or the image's wider float type. It may exceed the range of the image beside edges.

    image: (b, h, w, c).
    flow: (b, h, w, 2), (u, v) in pixels.
    kernel: "bicubic" reads 4 x 4 pixels (Keys 1981, a = -0.5, as Pillow; torch and OpenCV take a = -0.75). "lanczos"
        reads 6 x 6 pixels (3 lobes, weights divided by their sum).
    border: as for `bilinear_warp`.

    Raises ValueError if sizes differ, or for an unknown kernel or border.
    """
    if kernel not in _KERNELS:
        raise ValueError(f"kernel={kernel!r}; choose one of {tuple(_KERNELS)}")
    check_border(border)
    x, y = flow_positions(image, flow)
    # vmap, because a gather with explicit batch indices would all-gather a sharded batch
    return jax.vmap(lambda i, x, y: _sample(i, x, y, kernel, border))(image, x, y)
