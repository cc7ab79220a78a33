"""conv_transpose2d as ordinary convolutions against XLA's dilated form, output and both gradients."""

import jax
import numpy as np
import pytest
from jax import lax

from segjax.ops import conv_transpose2d
from segjax.ops.conv import _phases


def dilated(x, kernel, stride, padding):
    pads = [(k - 1 - padding, k - 1 - padding) for k in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# kernel, stride, padding, and whether the output has a whole number of pixels for each place
CASES = [(4, 2, 1, True), (4, 2, 0, True), (2, 2, 0, True), (6, 3, 0, True), (8, 4, 2, True), (5, 2, 2, False)]


@pytest.mark.parametrize("kernel, stride, padding, by_phases", CASES)
def test_equals_the_dilated_convolution(kernel, stride, padding, by_phases):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 7, 6)).astype(np.float32)
    weight = rng.standard_normal((kernel, kernel, 6, 5)).astype(np.float32)
    assert bool(_phases(5, kernel, stride, padding)) == by_phases
    expected, pull = jax.vjp(lambda x, k: dilated(x, k, stride, padding), x, weight)
    ours, ours_pull = jax.vjp(lambda x, k: conv_transpose2d(x, k, stride=stride, padding=padding), x, weight)
    cotangent = rng.standard_normal(expected.shape).astype(np.float32)
    for a, b in zip((ours, *ours_pull(cotangent)), (expected, *pull(cotangent)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
