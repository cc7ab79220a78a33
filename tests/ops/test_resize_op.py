"""resize against definitions in numpy; PyTorch's numbers are in test_parity_ops.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from PIL import Image

from segjax.ops import for_platform, resize
from segjax.ops.resize import resize_matrix

sizes = st.integers(1, 40)


@given(old=sizes, new=sizes, method=st.sampled_from(["bilinear", "bicubic"]), corners=st.booleans(), anti=st.booleans())
@settings(max_examples=150)
def test_rows_of_the_matrix_sum_to_one(old, new, method, corners, anti):
    matrix = resize_matrix(old, new, method, corners, anti)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)


@given(old=st.integers(2, 30), new=st.integers(2, 30))
@settings(max_examples=50)
def test_bilinear_is_linear_interpolation(old, new):
    values = np.random.default_rng(old).standard_normal(old)
    corners = resize_matrix(old, new, "bilinear", True, False) @ values
    np.testing.assert_allclose(corners, np.interp(np.linspace(0, old - 1, new), np.arange(old), values), atol=1e-12)
    centres = resize_matrix(old, new, "bilinear", False, False) @ values
    where = (np.arange(new) + 0.5) * old / new - 0.5
    np.testing.assert_allclose(centres, np.interp(where, np.arange(old), values), atol=1e-12)


@pytest.mark.parametrize("method, filter_", [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
@pytest.mark.parametrize("size", [(11, 9), (30, 50), (24, 31)])
def test_antialias_is_pillows(method, filter_, size):
    image = np.random.default_rng(0).standard_normal((24, 31)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(image).resize(size[::-1], filter_))
    ours = resize(image[..., None], size, method=method, antialias=True)[..., 0]
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_nearest_copies_values_and_keeps_the_dtype(dtype):
    x = np.random.default_rng(0).integers(0, 255, (2, 6, 8, 3)).astype(dtype)
    y = resize(x, (12, 4), method="nearest")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x[:, np.arange(12) // 2][:, :, ::2])


def test_leading_axes_and_integer_images():
    x = np.random.default_rng(0).integers(0, 255, (2, 3, 6, 8, 3)).astype(np.uint8)
    y = resize(x, (9, 5))
    assert y.shape == (2, 3, 9, 5, 3) and y.dtype == jnp.float32
    np.testing.assert_allclose(y[1, 2], resize(x[1, 2], (9, 5)), atol=1e-4)
    assert resize(jnp.zeros((6, 8, 1), jnp.bfloat16), (3, 3)).dtype == jnp.bfloat16


def test_gradient_is_the_transposed_matrix():
    x, ct = (
        np.random.default_rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate([(5, 7, 2), (13, 4, 2)])
    )
    (dx,) = jax.vjp(lambda x: resize(x, (13, 4)), x)[1](ct)
    rows, columns = resize_matrix(5, 13, "bilinear", False, False), resize_matrix(7, 4, "bilinear", False, False)
    np.testing.assert_allclose(dx, np.einsum("oh,pw,opc->hwc", rows, columns, ct), atol=1e-5)


def test_same_on_a_mesh_that_splits_batch_and_height():
    x = np.random.default_rng(0).standard_normal((4, 8, 6, 3)).astype(np.float32)
    mesh = jax.make_mesh((2, 4), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    grad = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(resize(x, (32, 24), align_corners=True))))
    value, dx = grad(jnp.asarray(x))
    sharded_value, sharded_dx = jax.jit(grad, in_shardings=NamedSharding(mesh, P("data", "space")))(x)
    np.testing.assert_allclose(sharded_value, value, rtol=1e-5)
    np.testing.assert_allclose(sharded_dx, dx, atol=1e-4)


@pytest.mark.parametrize("options", [dict(method="cubic"), dict(method="nearest", align_corners=True)])
def test_refuses_what_torch_refuses(options):
    with pytest.raises(ValueError, match="resize: method"):
        resize(np.zeros((4, 4, 1)), (2, 2), **options)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (9, 3), (20, 31)])
def test_values_are_the_same_with_and_without_a_gradient(size, align_corners):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 3)), jnp.float32)
    function = functools.partial(resize, size=size, align_corners=align_corners)
    with_gradient, _ = jax.vjp(function, x)  # products on every backend; without, two taps on CPU
    np.testing.assert_allclose(function(x), with_gradient, atol=1e-5)


@pytest.mark.parametrize("method, antialias", [("bilinear", False), ("bicubic", False), ("bilinear", True)])
@pytest.mark.parametrize("size", [(12, 20), (3, 20), (6, 5), (6, 8)])
def test_products_of_planes_are_those_of_pixels(size, method, antialias):
    """The form for TPUs, and the same gradient."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 8, 3)), jnp.float32)

    def both(platform):
        def run(x):
            y, backward = jax.vjp(lambda x: resize(x, size, method=method, antialias=antialias), x)
            return y, *backward(jnp.sin(y))

        return for_platform(run, platform)(x)

    for planes, pixels in zip(both("tpu"), both("gpu"), strict=True):
        np.testing.assert_allclose(planes, pixels, atol=1e-5)
