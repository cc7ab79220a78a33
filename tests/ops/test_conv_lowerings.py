"""Every lowering of conv2d against XLA's own convolution, output and both gradients, alone and on eight devices."""

import re
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs.collectives import collectives, totals
from segjax.ops import conv2d, for_platform
from segjax.ops.conv import LOWERINGS, choose
from segjax.ops.conv_geometry import seen_share, seen_taps

KINDS = {"depthwise": (5, 5, 5), "dense": (6, 7, 1), "wide": (64, 65, 1), "stem": (3, 8, 1), "grouped": (6, 4, 2)}
KINDS["bundles"] = (144, 48, 6)  # of two groups each


def xla(x, kernel, stride, padding, dilation, groups):
    return lax.conv_general_dilated(
        x, kernel, stride, padding, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def results(function, x, kernel, cotangent):
    y, vjp = jax.vjp(function, x, kernel)
    return y, *vjp(cotangent)


@settings(max_examples=12)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    size=st.tuples(st.integers(3, 13), st.integers(3, 13)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 2), (7, 4)]),
    padding=st.tuples(*[st.integers(0, 9)] * 4),
    seed=st.integers(0, 9),
)
def test_equals_xla(kind, size, kernel, stride, dilation, padding, seed):
    c, d, groups = KINDS[kind]
    pads = (padding[:2], padding[2:])
    if any(n + sum(p) < (k - 1) * r + 1 for n, p, k, r in zip(size, pads, kernel, dilation)):
        return
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.standard_normal((2, *size, c)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((*kernel, c // groups, d)), jnp.float32)
    theirs = jax.eval_shape(lambda: xla(x, w, stride, pads, dilation, groups))
    cotangent = jnp.asarray(rng.standard_normal(theirs.shape), jnp.float32)

    @jax.jit
    def both(*args):
        options = dict(stride=stride, padding=pads, dilation=dilation, groups=groups)
        ours = results(lambda x, w: conv2d(x, w, **options), *args)
        return ours, results(lambda x, w: xla(x, w, stride, pads, dilation, groups), *args)

    ours, expected = both(x, w, cotangent)
    for a, b, name in zip(ours, expected, ("output", "input gradient", "kernel gradient")):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4, err_msg=name)


@settings(max_examples=12)
@given(
    lowering=st.sampled_from(["even_rows", "shifted", "taps"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    padding=st.tuples(*[st.integers(0, 12)] * 4),
)
def test_dense_lowerings_equal_xla_where_they_are_not_the_fastest(lowering, size, kernel, stride, dilation, padding):
    pads = (padding[:2], padding[2:])
    outputs = [(n + sum(p) - (k - 1) * r - 1) // s + 1 for n, p, k, r, s in zip(size, pads, kernel, dilation, stride)]
    hypothesis.assume(min(outputs) > 0)
    rng = np.random.default_rng(0)
    x, w, cotangent = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in ((2, *size, 3), (*kernel, 3, 4), (2, *outputs, 4))
    )

    @jax.jit
    def both(*args):
        ours = results(lambda x, w: LOWERINGS[lowering](x, w, stride, pads, dilation, 1), *args)
        return ours, results(lambda x, w: xla(x, w, stride, pads, dilation, 1), *args)

    ours, expected = both(x, w, cotangent)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_summed_in_float32():
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((1, 4, 4, 64), (3, 3, 64, 64)))
    ours = LOWERINGS["shifted"](x, w, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    exact = xla(*(a.astype(jnp.float32) for a in (x, w)), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert ours.dtype == jnp.bfloat16 and (ours == exact.astype(jnp.bfloat16)).mean() > 0.98


def test_compiled_gradient_of_the_widest_groups_of_resnext():
    """32 groups of 32 channels. Sums over one of 7 axes are a segmentation fault in whole networks on the CPU."""
    rng = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(rng.standard_normal((2, 4, 6, 1024)), jnp.float32) for _ in range(2))
    w = jnp.asarray(rng.standard_normal((3, 3, 32, 1024)), jnp.float32)

    def group_by_group(x, w):
        parts = zip(jnp.split(x, 32, -1), jnp.split(w, 32, -1))
        return jnp.concatenate([xla(a, b, (1, 1), ((1, 1), (1, 1)), (1, 1), 1) for a, b in parts], -1)

    grad = jax.jit(lambda *args: results(lambda x, w: conv2d(x, w, padding=1, groups=32), *args))
    sums = re.findall(r"stablehlo.reduce.*: \(tensor<([0-9x]+)xf32>", grad.lower(x, w, cotangent).as_text())
    assert sums and max(shape.count("x") + 1 for shape in sums) < 7
    ours = grad(x, w, cotangent)
    for a, b in zip(ours, results(group_by_group, x, w, cotangent)):
        np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3)


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.tuples(*[st.integers(0, 12)] * 4),
)
def test_seen_share_counts_the_products_with_the_image(size, kernel, stride, dilation, padding):
    pads = (padding[:2], padding[2:])
    hypothesis.assume(all(n + sum(p) > (k - 1) * r for n, p, k, r in zip(size, pads, kernel, dilation)))
    image = np.pad(np.ones(size), pads)
    windows = np.lib.stride_tricks.sliding_window_view(image, [(k - 1) * r + 1 for k, r in zip(kernel, dilation)])
    seen = windows[:: stride[0], :: stride[1], :: dilation[0], :: dilation[1]].mean()
    assert seen_share((1, *size, 1), kernel, stride, pads, dilation) == pytest.approx(seen)


@given(
    size=st.integers(1, 12),
    taps=st.integers(1, 5),
    pads=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 15),
)
def test_taps_that_see_padding_only_are_left_out(size, taps, pads, stride, dilation):
    outputs = (size + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
    kept, fewer = seen_taps(size, taps, pads, stride, dilation)
    places = [[y * stride + tap * dilation - pads[0] for y in range(outputs)] for tap in range(taps)]
    seen = [tap for tap in range(taps) if any(0 <= place < size for place in places[tap])]
    assert set(seen) <= set(range(kept.start, kept.stop))
    if stride == 1 and seen and pads[0] >= seen[0] * dilation and pads[1] >= (taps - 1 - seen[-1]) * dilation:
        assert (kept.start, kept.stop) == (seen[0], seen[-1] + 1)
    assert fewer[0] == pads[0] - kept.start * dilation and min(fewer) >= 0
    assert outputs <= 0 or (size + sum(fewer) - dilation * (kept.stop - kept.start - 1) - 1) // stride + 1 == outputs


def test_a_pyramid_on_a_small_map_is_nearly_pointwise():
    assert seen_taps(16, 3, (24, 24), 1, 24) == (slice(1, 2), (0, 0))
    assert seen_taps(32, 3, (24, 24), 1, 24) == (slice(0, 3), (24, 24))


@pytest.mark.parametrize(
    "kernel, groups, dilation, expected",
    [
        ((3, 3, 256, 256), 1, 6, "shifted"),
        ((3, 3, 1, 96), 96, 1, "depthwise"),
        ((3, 3, 4, 128), 32, 1, "bundles"),
        ((1, 1, 64, 256), 1, 1, "pointwise"),
        ((7, 7, 3, 64), 1, 1, "windows"),
        ((3, 3, 3, 64), 1, 2, "xla"),
        ((3, 3, 64, 64), 1, 1, "xla"),
        ((3, 3, 256, 256), 1, 1, "taps"),
    ],
)
def test_the_lowering_is_chosen_by_shape_on_cpu_and_is_that_of_xla_elsewhere(kernel, groups, dilation, expected):
    pad = (dilation - 1, dilation - 1)
    shapes = (2, 16, 16, kernel[2] * groups), kernel, (1, 1), (pad, pad), (dilation, dilation), groups
    assert choose(*shapes, "cpu") == expected
    assert choose(*shapes, "gpu") == "xla"
    assert choose(*shapes, "tpu") == ("bundles" if expected == "bundles" else "xla")
    assert expected in LOWERINGS


def test_on_a_tpu_narrow_groups_fill_the_lanes_of_a_register():
    """And wide ones are left to XLA, whose form moves fewer bytes."""
    x, wide = jax.ShapeDtypeStruct((1, 8, 8, 1024), jnp.float32), jax.ShapeDtypeStruct((3, 3, 32, 1024), jnp.float32)
    narrow = jax.ShapeDtypeStruct((3, 3, 8, 1024), jnp.float32)
    for kernel, groups, count in ((narrow, 128, 8), (wide, 32, 1)):
        traced = jax.make_jaxpr(for_platform(partial(conv2d, padding=1, groups=groups), "tpu"))(x, kernel)
        found = [eqn.invars[0].aval.shape[-1] for eqn in traced.eqns if eqn.primitive.name == "conv_general_dilated"]
        assert found == [1024 // count] * count


@pytest.mark.parametrize("size", [(8, 9), (9, 12), (7, 7)])
@pytest.mark.parametrize("stride, kernel, dilation", [(1, 3, 1), (2, 3, 1), (2, 5, 1), (1, 3, 2), (3, 2, 1)])
def test_same_padding_is_tensorflows(size, stride, kernel, dilation):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, *size, 4)), jnp.float32)
    w = jnp.ones((kernel, kernel, 1, 4))
    ours = conv2d(x, w, stride=stride, padding="same", dilation=dilation, groups=4)
    np.testing.assert_allclose(ours, xla(x, w, (stride, stride), "SAME", (dilation, dilation), 4), atol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("stride", [1, 2])
def test_same_on_a_mesh_that_splits_batch_and_height(kind, stride):
    c, d, groups = KINDS[kind]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((4, 16, 12, c)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 3, c // groups, d)) / np.sqrt(9 * c // groups), jnp.float32)

    def loss(x, w):
        return jnp.sum(jnp.sin(conv2d(x, w, stride=stride, padding=1, groups=groups)))

    grad = jax.value_and_grad(loss, (0, 1))
    value, (dx, dw) = grad(x, w)
    mesh = jax.make_mesh((2, 4), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    split = NamedSharding(mesh, P("data", "space"))
    sharded_value, (sharded_dx, sharded_dw) = jax.jit(grad, in_shardings=(split, NamedSharding(mesh, P())))(x, w)
    np.testing.assert_allclose(sharded_value, value, rtol=1e-4)
    np.testing.assert_allclose(sharded_dx, dx, atol=3e-5)
    np.testing.assert_allclose(sharded_dw, dw, atol=3e-4)


def test_a_split_image_exchanges_rows_with_neighbours_only():
    """An unpadded stride of 2 has a row fewer than half its input; XLA would gather the input for its gradient."""
    split = NamedSharding(jax.make_mesh((2,), ("space",), axis_types=(AxisType.Auto,)), P(None, "space"))
    x = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32, sharding=split)
    w = jax.ShapeDtypeStruct((3, 3, 3, 8), jnp.float32, sharding=NamedSharding(split.mesh, P()))
    gradient = for_platform(jax.grad(lambda w, x: jnp.sum(jnp.sin(conv2d(x, w, stride=2)))), "tpu")
    messages = totals(collectives(jax.jit(gradient).lower(w, x).compile().as_text()))
    assert set(messages) == {"all-reduce", "collective-permute"}
    assert choose((1, 16, 16, 3), (3, 3, 3, 8), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, "tpu") == "even_rows"
    assert choose((1, 16, 16, 3), (3, 3, 3, 8), (2, 2), ((1, 1), (1, 1)), (1, 1), 1, "tpu") == "xla"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_replicated_kernel_inside_shard_map(kind):
    c, d, groups = KINDS[kind]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((8, 7, 7, c)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 3, c // groups, d)) / np.sqrt(9 * c // groups), jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(x, w):
        return jnp.sum(jnp.sin(conv2d(x, w, padding=1, groups=groups)))

    island = jax.shard_map(jax.grad(loss, (0, 1)), mesh=mesh, in_specs=(P("data"), P()), out_specs=(P("data"), P()))
    for a, b in zip(jax.jit(island)(x, w), jax.grad(loss, (0, 1))(x, w)):
        np.testing.assert_allclose(a, b, atol=3e-4)


def test_bfloat16_accumulates_the_kernel_gradient_in_float32():
    x = jnp.ones((2, 40, 40, 4), jnp.bfloat16)
    w = jnp.zeros((3, 3, 1, 4), jnp.bfloat16)
    y, vjp = jax.vjp(lambda w: conv2d(x, w, groups=4), w)
    (dw,) = vjp(jnp.ones_like(y))
    assert dw.dtype == jnp.bfloat16
    np.testing.assert_allclose(dw.astype(jnp.float32), 2 * 38 * 38, rtol=4e-3)
