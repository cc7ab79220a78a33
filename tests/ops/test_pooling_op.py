"""Pooling against loops in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.ops import adaptive_avg_pool, avg_pool, for_platform, max_pool


def windows(x, window, stride, padding, ceil_mode=False):
    """Yields (row, column, values inside the image) of every window, by torch's definition of the output size."""
    spans = []
    for n in x.shape[1:3]:
        out = (n + 2 * padding - window) / stride
        out = (math.ceil(out) if ceil_mode else math.floor(out)) + 1
        if ceil_mode and (out - 1) * stride >= n + padding:
            out -= 1
        starts = [i * stride - padding for i in range(out)]
        spans.append([(max(s, 0), min(s + window, n)) for s in starts])
    for i, rows in enumerate(spans[0]):
        for j, columns in enumerate(spans[1]):
            yield i, j, x[:, slice(*rows), slice(*columns)]


@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)), window=st.integers(2, 3), stride=st.integers(1, 3),
    padding=st.integers(0, 1), ceil_mode=st.booleans(),
)  # fmt: skip
@settings(max_examples=25)
def test_max_pool(size, window, stride, padding, ceil_mode):
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    y = np.asarray(max_pool(x, window, stride, padding, ceil_mode=ceil_mode))
    cells = list(windows(x, window, stride, padding, ceil_mode))
    assert y.shape[1:3] == (cells[-1][0] + 1, cells[-1][1] + 1)
    for i, j, values in cells:
        np.testing.assert_array_equal(y[:, i, j], values.max((1, 2)))


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool(count_include_pad):
    x = np.random.default_rng(0).standard_normal((2, 7, 8, 3)).astype(np.float32)
    y = np.asarray(avg_pool(x, 3, 2, 1, count_include_pad=count_include_pad))
    for i, j, values in windows(x, 3, 2, 1):
        expected = values.sum((1, 2)) / 9 if count_include_pad else values.mean((1, 2))
        np.testing.assert_allclose(y[:, i, j], expected, atol=1e-6)


@given(size=st.tuples(st.integers(1, 13), st.integers(1, 13)), out=st.tuples(st.integers(1, 8), st.integers(1, 8)))
@settings(max_examples=25)
def test_adaptive_avg_pool(size, out):
    x = np.random.default_rng(0).standard_normal((1, *size, 2)).astype(np.float32)
    y = np.asarray(adaptive_avg_pool(x, out))
    for i in range(out[0]):
        for j in range(out[1]):
            rows = slice(i * size[0] // out[0], -(-(i + 1) * size[0] // out[0]))
            columns = slice(j * size[1] // out[1], -(-(j + 1) * size[1] // out[1]))
            np.testing.assert_allclose(y[:, i, j], x[:, rows, columns].mean((1, 2)), atol=1e-5)


def test_max_pool_of_integers():
    x = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool(x, 2)[0, :, :, 0], [[5, 7], [13, 15]])


@pytest.mark.parametrize(
    "window, stride, padding, ceil_mode", [(2, None, 0, False), (3, 2, 1, True), ((2, 3), (1, 2), (1, 0), False)]
)
def test_the_gradient_of_max_pooling_on_the_cpu_is_that_of_xla(window, stride, padding, ceil_mode):
    """Byte for byte, also if the largest value of a window occurs several times."""
    x = jnp.asarray(np.random.default_rng(0).integers(-2, 3, (2, 9, 12, 3)) * 0.37, jnp.float32)
    pool = lambda x: max_pool(x, window, stride, padding, ceil_mode=ceil_mode)  # noqa: E731
    dy = jax.random.normal(jax.random.key(0), jax.eval_shape(pool, x).shape)

    def gradient(x):
        return jax.vjp(pool, x)[1](dy)[0]

    ours, theirs = jax.jit(gradient), jax.jit(for_platform(gradient, "tpu"))
    assert "select_and_scatter" not in ours.lower(x).as_text() and "select_and_scatter" in theirs.lower(x).as_text()
    np.testing.assert_array_equal(ours(x), theirs(x))
