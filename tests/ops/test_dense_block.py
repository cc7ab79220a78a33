"""The dense block in one buffer against joined maps and JAX's own gradient, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs.collectives import collectives
from segjax.ops import for_platform
from segjax.ops.barriers import compile_with_barriers
from segjax.ops.dense_block import NOT_NEAR, DenseLeaves, DenseNear, DenseSettings, dense_block, dense_layer
from tests.jaxprs import operations

GROWTH, CHANNELS = 3, 4
SETTINGS = DenseSettings(1e-5, jnp.float64, dilation=2, dropout=0.3)


def leaves(rng, channels, bottleneck=True):
    def pair(c):
        return 1 + 0.1 * rng.standard_normal(c), 0.1 * rng.standard_normal(c)

    def kernel(*shape):
        return jnp.asarray(rng.standard_normal(shape))

    if not bottleneck:
        return DenseLeaves(None, None, pair(channels), kernel(3, 3, channels, GROWTH))
    inner = 4 * GROWTH
    return DenseLeaves(pair(channels), kernel(1, 1, channels, inner), pair(inner), kernel(3, 3, inner, GROWTH))


def joined(x, layers, keys, near, settings):
    """The definition: every layer reads all maps before it."""
    moments = []
    for own, key, close in zip(layers, keys, near):
        y, found = dense_layer(x, own, key, close, settings)
        x = jnp.concatenate([x, y], -1)
        moments.append(found)
    return x, moments


def loss(block, settings, x, layers, keys, near=None):
    y, moments = block(x, layers, keys, near or [NOT_NEAR] * len(layers), settings)
    return jnp.sum(jnp.sin(y)), (y, moments)


@pytest.fixture
def case():
    """(x, layers, keys): the first layer has no 1x1 convolution, the second no dropout."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        layers = [leaves(rng, CHANNELS, bottleneck=False), leaves(rng, 7), leaves(rng, 10)]
        yield (
            jnp.asarray(rng.standard_normal((4, 6, 5, CHANNELS))),
            layers,
            [jax.random.key(1), None, jax.random.key(2)],
        )


def gradients(block, case, settings=SETTINGS):
    return jax.value_and_grad(partial(loss, block, settings), (0, 1), has_aux=True)(*case)


def test_values_statistics_and_gradients_are_those_of_joined_maps(case):
    (expected, (y, moments)), wanted = jax.jit(partial(gradients, joined))(case)
    (found, (ours, statistics)), gradient = jax.jit(partial(gradients, dense_block))(case)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(ours, y, rtol=1e-12)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), statistics, moments)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(wanted))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-9 * largest), gradient, wanted)
    assert not np.asarray(ours[..., CHANNELS : CHANNELS + GROWTH]).all()  # the dropout of the first layer
    assert np.asarray(ours[..., CHANNELS + GROWTH : -GROWTH]).all()


def test_images_on_two_devices_give_the_same(case):
    x, *rest = case
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.device_put(x, NamedSharding(mesh, P("data")))
    rest = jax.device_put(rest, NamedSharding(mesh, P()))
    (_, (y, _)), found = jax.jit(partial(gradients, dense_block))((spread, *rest))
    assert y.sharding.spec[0] == "data"
    _, expected = jax.jit(partial(gradients, dense_block))(case)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)


def near_of(layers):
    return [
        DenseNear(*(None if norm is None else jnp.full(norm[0].shape, 0.1) for norm in (one.norm1, one.norm2)))
        for one in layers
    ]


def test_programs_for_tpu_read_the_batch_of_each_norm_once(case):
    """With the same values, statistics and gradients; on two devices the five norms send five messages forward."""
    x, layers, keys = case
    expected = jax.jit(partial(gradients, dense_block))(case)
    found = jax.jit(for_platform(partial(gradients, dense_block), "tpu"))((*case, near_of(layers)))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)

    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P("data")))

    def messages(near):
        run = for_platform(lambda x: dense_block(x, layers, [None] * 3, near, SETTINGS)[0], "tpu")
        compiled = jax.jit(run, out_shardings=NamedSharding(mesh, P("data"))).lower(spread).compile()
        return len(collectives(compiled.as_text()))

    assert (messages(near_of(layers)), messages([NOT_NEAR] * 3)) == (5, 10)


def test_groups_of_images_have_statistics_of_their_own(case):
    """Those of the block on each group alone."""
    x, layers, _ = case
    keys, plain = [None] * len(layers), SETTINGS._replace(dropout=0.0)
    (value, (y, moments)), (dx, dlayers) = jax.jit(partial(gradients, dense_block, settings=plain._replace(groups=2)))(
        (x, layers, keys)
    )
    single = jax.jit(partial(gradients, dense_block, settings=plain))
    each = [jax.device_get(single((half, layers, keys))) for half in np.split(x, 2)]
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    close(value, sum(one[0][0] for one in each))
    close(y, np.concatenate([one[0][1][0] for one in each]))
    close(dx, np.concatenate([one[1][0] for one in each]))
    jax.tree.map(lambda ours, *theirs: close(ours, np.stack(theirs)), moments, *(one[0][1][1] for one in each))
    jax.tree.map(lambda ours, a, b: close(ours, a + b), dlayers, *(one[1][1] for one in each))


def test_half_precision_has_half_buffers_and_gradients_of_the_parameters_type(case):
    settings = SETTINGS._replace(dtype=jnp.bfloat16)
    x, layers, keys = case
    layers = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), layers)
    (_, (y, moments)), (dx, dlayers) = jax.eval_shape(
        lambda x, layers: gradients(dense_block, (x, layers, keys), settings), x.astype(jnp.float32), layers
    )
    assert y.dtype == jnp.bfloat16 and dx.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((moments, dlayers))} == {jnp.dtype(jnp.float32)}


def test_every_layer_runs_twice_in_a_fraction_of_the_memory():
    """Of 8 layers: one buffer and its gradient, instead of 8 joined maps. Barriers keep XLA from merging both runs."""
    rng, settings = np.random.default_rng(0), DenseSettings(1e-5)
    layers = jax.tree.map(jnp.float32, [leaves(rng, CHANNELS + GROWTH * i) for i in range(8)])
    x, keys = jax.ShapeDtypeStruct((2, 64, 64, CHANNELS), jnp.float32), [None] * 8

    def temporary(block):
        lowered = jax.jit(lambda x, layers: gradients(block, (x, layers, keys), settings)[1]).lower(x, layers)
        return compile_with_barriers(lowered, "cpu").memory_analysis().temp_size_in_bytes

    buffer = 2 * 64 * 64 * (CHANNELS + 8 * GROWTH) * 4
    assert 2 * buffer < temporary(dense_block) < 6 * buffer < 12 * buffer < temporary(joined)
    jaxpr = jax.make_jaxpr(lambda x, layers: gradients(dense_block, (x, layers, keys), settings)[1])(x, layers)
    assert sum(eqn.primitive.name == "optimization_barrier" for eqn in operations(jaxpr.jaxpr)) == 8


def test_devices_of_a_mapped_axis_share_statistics(case):
    """Inside shard_map: gradients of parameters, which all devices have, are those of the whole batch."""
    x, layers, _ = case
    keys, plain = [None] * len(layers), SETTINGS._replace(dropout=0.0)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])

    def gradient(settings, x, layers):
        return jax.grad(lambda x, layers: loss(dense_block, settings, x, layers, keys)[0], (0, 1))(x, layers)

    island = jax.shard_map(
        partial(gradient, plain._replace(axis_name="data")), mesh=mesh, in_specs=(P("data"), P()),
        out_specs=(P("data"), P()),
    )  # fmt: skip
    found, expected = jax.jit(island)(x, layers), jax.jit(partial(gradient, plain))(x, layers)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)
