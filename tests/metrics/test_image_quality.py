"""PSNR and SSIM against definitions written out in numpy."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from segjax.metrics.image_quality import psnr, ssim

RNG = np.random.default_rng(0)


def pictures(size=(24, 31)):
    y, x = np.mgrid[: size[0], : size[1]]
    smooth = 128 + 60 * np.sin(y / 3)[..., None] + 50 * np.cos(x / 4)[..., None] * np.ones(3)
    a = np.stack([smooth, smooth[::-1]])
    return a.astype(np.float32), np.clip(a + RNG.normal(0, 12, a.shape), 0, 255).astype(np.float32)


def test_psnr():
    a, b = pictures()
    expected = 10 * np.log10(255**2 / np.square(a - b).mean((1, 2, 3)))
    np.testing.assert_allclose(psnr(a, b), expected, rtol=1e-5)
    assert (np.asarray(psnr(a, a)) == 100).all()
    assert np.isclose(psnr(np.zeros((1, 4, 4, 3)), np.full((1, 4, 4, 3), 255))[0], 0, atol=1e-4)


def test_ssim():
    a, b = (x.astype(np.float64) for x in pictures())

    def blur(x):  # truncate 3.5 sigma = radius 5
        return gaussian_filter(x, (0, 1.5, 1.5, 0), truncate=3.5)[:, 5:-5, 5:-5]

    va, vb, cov = blur(a * a) - blur(a) ** 2, blur(b * b) - blur(b) ** 2, blur(a * b) - blur(a) * blur(b)
    c1, c2 = 2.55**2, 7.65**2
    value = (2 * blur(a) * blur(b) + c1) * (2 * cov + c2) / ((blur(a) ** 2 + blur(b) ** 2 + c1) * (va + vb + c2))
    np.testing.assert_allclose(ssim(a, b), value.mean((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(ssim(a, a), 1, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 8), (11, 11), (10, 40)])
def test_small_images(size):
    a, b = pictures(size)
    assert np.isfinite(ssim(a, b)).all() and (np.asarray(ssim(a, b)) < 1).all()
