"""Warping with kernels that keep more of the high frequencies than bilinear interpolation: bicubic and Lanczos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from segjax.ops.warp import Border, check_border, flow_positions
from segjax.typing import Array

Kernel = Literal["bicubic", "lanczos"]


def _bicubic(distance: Array) -> Array:
    """Returns the cubic convolution kernel of Keys (IEEE TASSP 1981, eq. 15), a = -0.5: exact for quadratics."""
    d = jnp.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return jnp.where(d <= 1, near, jnp.where(d < 2, far, 0.0))


def _lanczos(distance: Array) -> Array:
    """Returns the sinc windowed by its central lobe of width 3 (Duchon 1979); the sum over the taps is not yet 1."""
    return jnp.where(jnp.abs(distance) < 3, jnp.sinc(distance) * jnp.sinc(distance / 3), 0.0)


# kernel -> (pixels that it reads on either side, weight of a distance in pixels)
_KERNELS: dict[str, tuple[int, Callable[[Array], Array]]] = {"bicubic": (2, _bicubic), "lanczos": (3, _lanczos)}


def _weights(weight: Callable[[Array], Array], fraction: Array, taps: range) -> list[Array]:
    found = [weight(fraction - tap)[..., None] for tap in taps]
    total = sum(found)  # 1 for the bicubic kernel; without this division, Lanczos would change flat areas by 1 %
    return [one / total for one in found]


def _sample(image: Array, x: Array, y: Array, kernel: Kernel, border: Border) -> Array:
    """Returns the values (..., c) of one image (h, w, c) at pixel positions x, y (...)."""
    h, w = image.shape[:2]
    reach, weight = _KERNELS[kernel]
    # values are constant from `reach` pixels outside on, and huge displacements would overflow the integer index
    x, y = (jnp.clip(p, -reach - 1.0, size + reach) for p, size in ((x, w), (y, h)))
    x0, y0 = jnp.floor(x), jnp.floor(y)
    taps = range(1 - reach, reach + 1)
    across, down = _weights(weight, x - x0, taps), _weights(weight, y - y0, taps)
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
