"""Similarity of a reconstructed frame to the real one: PSNR and SSIM."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from segjax.ops import conv2d
from segjax.typing import Array


def psnr(a: Array, b: Array) -> Array:
    """Returns the peak signal to noise ratio, (b,) float32 in dB; 100 for equal images.

    a, b: (b, h, w, c) in 0..255.
    """
    error = jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32)).mean((1, 2, 3))
    return 10 * jnp.log10(255.0**2 / jnp.maximum(error, 255.0**2 * 1e-10))


def ssim(a: Array, b: Array, *, size: int = 11, sigma: float = 1.5) -> Array:
    """Returns the structural similarity, (b,) float32, at most 1; the mean over channels and windows.

    As in Wang et al., 2004: Gaussian window, K = (0.01, 0.03), only windows inside the image. Images smaller than the
    window are compared by the largest odd window that fits.

    a, b: (b, h, w, c) in 0..255.
    size: side of the window in pixels, odd.
    sigma: of the Gaussian, in pixels.
    """
    size = min(size, *(side - 1 + side % 2 for side in a.shape[1:3]))
    taps = np.exp(-0.5 * np.square((np.arange(size) - size // 2) / sigma))
    taps = (taps / taps.sum()).astype(np.float32)

    def blur(x):
        x = jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3], 1)
        x = conv2d(x, jnp.asarray(taps).reshape(-1, 1, 1, 1))
        return conv2d(x, jnp.asarray(taps).reshape(1, -1, 1, 1))

    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    mean_a, mean_b = blur(a), blur(b)
    # the mean is subtracted first: a variance as the difference of two squares of up to 255 loses digits
    shift = (a.mean() + b.mean()) / 2
    x, y = a - shift, b - shift
    mx, my = mean_a - shift, mean_b - shift
    var_a, var_b, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    value = value / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return value.mean((1, 2, 3)).reshape(a.shape[0], -1).mean(1)
