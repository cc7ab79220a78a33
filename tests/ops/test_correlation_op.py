"""Correlation of two maps: equality with its definition, pixel by pixel, for any size, window and type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import correlation


def definition(first, second, reach, stride):
    """The mean of products at each displacement, in float64; 0 outside."""
    b, h, w, c = first.shape
    steps = range(-(reach // stride) * stride, reach + 1, stride)
    steps = [d for d in steps if abs(d) <= reach // stride * stride]
    volume = np.zeros((b, h, w, len(steps) ** 2))
    for n, (dy, dx) in enumerate((dy, dx) for dy in steps for dx in steps):
        for y in range(max(0, -dy), min(h, h - dy)):
            for x in range(max(0, -dx), min(w, w - dx)):
                volume[:, y, x, n] = (np.float64(first[:, y, x]) * np.float64(second[:, y + dy, x + dx])).sum(-1) / c
    return volume


def maps(*shape, dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    "shape, reach, stride",
    [
        ((2, 3, 5, 4), 20, 2),  # the window is larger than the maps
        ((1, 23, 70, 3), 4, 2),  # three tiles of columns, the last one incomplete
        ((1, 4, 32, 2), 3, 1),
        ((1, 4, 33, 2), 5, 3),  # displacements -3, 0, 3
        ((1, 1, 1, 1), 2, 1),
        ((1, 2, 3, 2), 0, 1),
    ],
    ids=str,
)
def test_it_is_its_definition(shape, reach, stride):
    first, second = maps(*shape)
    found = jax.jit(lambda a, b: correlation(a, b, max_displacement=reach, stride=stride))(first, second)
    np.testing.assert_allclose(found, definition(first, second, reach, stride), atol=2e-6)
    assert found.dtype == np.float32


def test_a_shift_is_found_at_its_displacement():
    """FlowNetC's own window: 21 x 21 displacements, dx changes first."""
    first, _ = maps(1, 48, 64, 64)
    second = np.roll(first, (6, -14), (1, 2))  # what is at (y, x) is at (y + 6, x - 14)
    found = np.asarray(correlation(first, second))[0, 10:38, 20:60]
    assert found.shape[-1] == 441 and (found.argmax(-1) == (6 // 2 + 10) * 21 + (-14 // 2 + 10)).mean() > 0.99


def test_types():
    first, second = maps(1, 4, 6, 5)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (first, second)]
    found = correlation(*half, max_displacement=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, definition(*(np.asarray(x, np.float64) for x in half), 2, 2), atol=1e-6)
    with jax.enable_x64(True):
        wide = correlation(*maps(1, 4, 6, 5, dtype=np.float64), max_displacement=2)
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, definition(*maps(1, 4, 6, 5, dtype=np.float64), 2, 2), atol=1e-14)


def test_gradients_are_those_of_the_definition():
    first, second = maps(1, 3, 4, 2)
    weight = np.random.default_rng(1).standard_normal((1, 3, 4, 9)).astype(np.float32)

    def plain(a, b):
        padded = jnp.pad(b, ((0, 0), (2, 2), (2, 2), (0, 0)))
        parts = [(a * padded[:, y : y + 3, x : x + 4]).mean(-1) for y in (0, 2, 4) for x in (0, 2, 4)]
        return (jnp.stack(parts, -1) * weight).sum()

    ours = jax.grad(lambda a, b: (correlation(a, b, max_displacement=2) * weight).sum(), (0, 1))(first, second)
    for found, expected in zip(ours, jax.grad(plain, (0, 1))(first, second)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("other", [(1, 3, 4, 3), (1, 3, 5, 2), (3, 4, 2)])
def test_maps_of_other_shapes_are_refused(other):
    with pytest.raises(ValueError, match="must both be"):
        correlation(np.zeros((1, 3, 4, 2)), np.zeros(other))
