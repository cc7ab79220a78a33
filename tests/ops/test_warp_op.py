"""bilinear_warp: golden values of resample2d, identities and borders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.ops import bilinear_warp, grid_sample

SOURCE = 10.0 * np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
U = np.array([[0.5, -0.5, 1.25, 0.5], [2.75, 0, -3, 0.49], [0, 0, 0.5, -0.51]], np.float32)
V = np.array([[0, 0.5, -0.5, 2.5], [0.25, -0.75, 0, 1], [0.5, -3, 0.5, -0.5]], np.float32)
FLOW = np.stack([U, V], -1)[None]
GOLDEN = {
    "bilinear": [[5, 25, 30, 110], [77.5, 20, 40, 110], [80, 10, 105, 84.9]],
    "nearest": [[10, 50, 30, 110], [70, 10, 40, 110], [80, 10, 110, 100]],
}


@pytest.mark.parametrize("method", GOLDEN)
def test_golden_values(method):
    ours = bilinear_warp(SOURCE, FLOW, method=method)[0, :, :, 0]
    np.testing.assert_allclose(ours, GOLDEN[method], atol=1e-4)


@given(u=st.integers(-6, 6), v=st.integers(-6, 6), method=st.sampled_from(["bilinear", "nearest"]))
@settings(max_examples=40)
def test_integer_flow_is_a_shift(u, v, method):
    image = np.random.default_rng(0).standard_normal((1, 5, 6, 2)).astype(np.float32)
    flow = np.broadcast_to(np.float32([u, v]), (1, 5, 6, 2))
    rows, columns = np.arange(5) + v, np.arange(6) + u
    shifted = image[:, np.clip(rows, 0, 4)][:, :, np.clip(columns, 0, 5)]
    np.testing.assert_allclose(bilinear_warp(image, flow, method=method), shifted, atol=1e-6)
    inside = ((rows >= 0) & (rows < 5))[:, None] & ((columns >= 0) & (columns < 6))
    zeros = bilinear_warp(image, flow, method=method, border="zeros")
    np.testing.assert_allclose(zeros, shifted * inside[..., None], atol=1e-6)


def test_zeros_border_blends_at_the_edge():
    out = bilinear_warp(
        np.ones((1, 4, 4, 1), np.float32), np.full((1, 4, 4, 2), [-0.25, 0], np.float32), border="zeros"
    )
    np.testing.assert_allclose(out[0, :, :, 0], np.tile([0.75, 1, 1, 1], (4, 1)))


def test_huge_flow_lands_on_the_border():
    for border, expected in (("replicate", 1.0), ("zeros", 0.0)):
        flow = np.full((1, 4, 4, 2), [1e30, -1e30], np.float32)
        np.testing.assert_array_equal(bilinear_warp(np.ones((1, 4, 4, 1), np.float32), flow, border=border), expected)


def test_nearest_keeps_label_dtypes():
    labels = np.random.default_rng(0).integers(0, 20, (2, 6, 7, 1)).astype(np.uint8)
    out = bilinear_warp(labels, np.zeros((2, 6, 7, 2), np.float32), method="nearest")
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, labels)


def test_a_batch_split_over_devices_is_not_gathered():
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))
    image, flow = jax.ShapeDtypeStruct((8, 6, 7, 3), jnp.float32), jax.ShapeDtypeStruct((8, 6, 7, 2), jnp.float32)
    warp = jax.jit(bilinear_warp, in_shardings=(split, split), out_shardings=split)
    hlo = warp.lower(image, flow).compile().as_text()
    assert "all-gather" not in hlo and "all-reduce" not in hlo


def test_grid_sample_conventions():
    image = np.random.default_rng(0).standard_normal((1, 5, 8, 2)).astype(np.float32)
    for corners, (xs, ys) in {
        True: (np.linspace(-1, 1, 8), np.linspace(-1, 1, 5)),
        False: ((np.arange(8) + 0.5) / 4 - 1, (np.arange(5) + 0.5) / 2.5 - 1),
    }.items():
        grid = np.stack(np.meshgrid(xs, ys), -1)[None].astype(np.float32)
        np.testing.assert_allclose(grid_sample(image, grid, align_corners=corners), image, atol=1e-5)


def test_errors_name_the_values():
    with pytest.raises(ValueError, match="must be"):
        bilinear_warp(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 5, 2)))
    with pytest.raises(ValueError, match="border='mirror'"):
        bilinear_warp(SOURCE, FLOW, border="mirror")
