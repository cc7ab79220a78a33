"""kernel_warp against the definition of its kernels, one pixel at a time, and what the kernels reproduce exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.ops import kernel_warp

KERNELS = ("bicubic", "lanczos")


def cubic(d):
    """Keys (1981), eq. 8 with a = -0.5, expanded powers of |d|."""
    a, d = -0.5, abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def lanczos(d):
    if d == 0:
        return 1.0
    return 3 * np.sin(np.pi * d) * np.sin(np.pi * d / 3) / (np.pi * d) ** 2 if abs(d) < 3 else 0.0


def by_hand(image, flow, kernel, border):
    """Sums over a picture that is larger on all sides by its border, with weights of all of its pixels."""
    weight, pad = {"bicubic": cubic, "lanczos": lanczos}[kernel], 30
    h, w = image.shape[:2]
    mode = dict(mode="edge") if border == "replicate" else dict(mode="constant")
    wide = np.pad(image.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), **mode)
    out = np.zeros((h, w, image.shape[2]))
    for y in range(h):
        for x in range(w):
            across = np.array([weight(x + flow[y, x, 0] - i) for i in range(-pad, w + pad)])
            down = np.array([weight(y + flow[y, x, 1] - j) for j in range(-pad, h + pad)])
            out[y, x] = np.einsum("j,i,jic->c", down / down.sum(), across / across.sum(), wide)
    return out


@pytest.mark.parametrize("border", ["replicate", "zeros"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_definition(kernel, border):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 6, 7, 2)).astype(np.float32)
    flow = rng.normal(0, 3, (2, 6, 7, 2)).astype(np.float32)
    flow[0, 0, 0], flow[0, 0, 1], flow[0, 1, 0] = (2.5, 1.0), (-4.0, 7.25), (0.0, -9.5)
    found = jax.jit(lambda i, f: kernel_warp(i, f, kernel=kernel, border=border))(image, flow)
    assert found.dtype == jnp.float32
    for one, i, f in zip(found, image, flow):
        np.testing.assert_allclose(one, by_hand(i, f, kernel, border), atol=2e-5)


@given(u=st.integers(-8, 8), v=st.integers(-8, 8), kernel=st.sampled_from(KERNELS))
@settings(max_examples=30, deadline=None)
def test_integer_flow_is_a_shift(u, v, kernel):
    image = np.random.default_rng(0).standard_normal((1, 5, 6, 2)).astype(np.float32)
    flow = np.broadcast_to(np.float32([u, v]), (1, 5, 6, 2))
    rows, columns = np.arange(5) + v, np.arange(6) + u
    shifted = image[:, np.clip(rows, 0, 4)][:, :, np.clip(columns, 0, 5)]
    np.testing.assert_allclose(kernel_warp(image, flow, kernel=kernel), shifted, atol=1e-5)
    inside = ((rows >= 0) & (rows < 5))[:, None] & ((columns >= 0) & (columns < 6))
    zeros = kernel_warp(image, flow, kernel=kernel, border="zeros")
    np.testing.assert_allclose(zeros, shifted * inside[..., None], atol=1e-5)


def test_bicubic_is_exact_for_quadratics_and_lanczos_for_flat_areas():
    y, x = np.mgrid[:16, :18].astype(np.float64)
    flow = np.random.default_rng(1).uniform(-2, 2, (16, 18, 2))

    def surface(x, y):
        return 0.3 * x * x - 0.2 * y * y + 0.1 * x * y - x + 2 * y + 5

    found = kernel_warp(np.float32(surface(x, y))[None, ..., None], np.float32(flow)[None])[0, ..., 0]
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(found[inside], surface(x + flow[..., 0], y + flow[..., 1])[inside], atol=1e-3)
    flat = np.full((1, 16, 18, 1), 200, np.uint8)
    np.testing.assert_allclose(kernel_warp(flat, np.float32(flow)[None], kernel="lanczos"), 200.0, atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_huge_flow_lands_on_the_border(kernel):
    flow = np.full((1, 4, 4, 2), [1e30, -1e30], np.float32)
    for border, expected in (("replicate", 1.0), ("zeros", 0.0)):
        found = kernel_warp(np.ones((1, 4, 4, 1), np.float32), flow, kernel=kernel, border=border)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_batch_split_over_devices_is_not_gathered():
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))
    image, flow = jax.ShapeDtypeStruct((8, 6, 7, 3), jnp.float32), jax.ShapeDtypeStruct((8, 6, 7, 2), jnp.float32)
    warp = jax.jit(kernel_warp, in_shardings=(split, split), out_shardings=split)
    hlo = warp.lower(image, flow).compile().as_text()
    assert "all-gather" not in hlo and "all-reduce" not in hlo


def test_errors_name_the_values():
    image, flow = np.zeros((1, 4, 4, 1), np.float32), np.zeros((1, 4, 4, 2), np.float32)
    with pytest.raises(ValueError, match="must be"):
        kernel_warp(image, flow[:, :, :3])
    with pytest.raises(ValueError, match="kernel='nearest'"):
        kernel_warp(image, flow, kernel="nearest")
    with pytest.raises(ValueError, match="border='mirror'"):
        kernel_warp(image, flow, border="mirror")
