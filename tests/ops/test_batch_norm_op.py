"""batch_norm: the written-out backward pass, accuracy, bfloat16 and shared statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from segjax.models.layers import BatchNorm
from segjax.ops import batch_norm, for_platform
from segjax.ops.batch_norm import batch_moments
from segjax.ops.platform import made_for


def plain(x, scale, bias, eps):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(var + eps) * scale + bias


def example(shape=(3, 5, 4, 6)):
    rng = np.random.default_rng(0)
    c = shape[-1]
    return [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in (shape, (c,), (c,), shape)]


@pytest.mark.parametrize("of, near", [("cpu", None), ("cpu", 0.2), ("tpu", None), ("tpu", 0.2)])
def test_gradients_equal_those_of_the_plain_formula(of, near):
    x, scale, bias, ct = example()
    near = None if near is None else jnp.full(6, near)
    with made_for(of):
        ours = jax.vjp(lambda *a: batch_norm(*a, 1e-3, near=near)[0], x, scale, bias)
    theirs = jax.vjp(lambda *a: plain(*a, 1e-3), x, scale, bias)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    with made_for(of):
        gradients = ours[1](ct)
    for a, b in zip(gradients, theirs[1](ct)):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("of", ["cpu", "tpu"])
def test_variance_of_a_large_mean_is_accurate(of):
    """On a TPU too, if the running mean is near that of the batch."""
    x = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32) + 3000
    with made_for(of):
        _, mean, var = batch_norm(x, jnp.ones(3), jnp.zeros(3), 1e-5, near=jnp.full(3, 2998.0))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1, 2)), rtol=1e-3)


def test_bfloat16_batch_has_float32_statistics():
    x = example()[0].astype(jnp.bfloat16)
    y, mean, var = batch_norm(x, jnp.ones(6), jnp.zeros(6), 1e-5, jnp.bfloat16)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(var, x.astype(jnp.float32).var((0, 1, 2)), rtol=1e-5)


def test_one_value_per_channel_leaves_a_finite_running_variance():
    variables = BatchNorm().init(jax.random.key(0), jnp.zeros((1, 1, 1, 3)))
    _, new = BatchNorm(train=True).apply(variables, jnp.ones((1, 1, 1, 3)), mutable=["batch_stats"])
    assert np.isfinite(new["batch_stats"]["var"]).all()


def test_programs_for_tpu_read_the_batch_once():
    """Both sums are of the batch itself: none waits for the other, so that one message carries both."""
    x, near = jnp.zeros((2, 4, 4, 6)), jnp.zeros(6)

    def waits(of):
        traced = jax.make_jaxpr(for_platform(partial(batch_moments, near=near), of))(x)
        sums = [eqn for eqn in traced.eqns if eqn.primitive.name == "reduce_sum"]
        assert len(sums) == 2
        made = {var: eqn for eqn in traced.eqns for var in eqn.outvars}
        found, seen = [sums[1]], set()
        while found:
            for var in found.pop().invars:
                if not isinstance(var, Literal) and var in made and var not in seen:
                    seen.add(var)
                    found.append(made[var])
        return sums[0].outvars[0] in seen

    assert waits("cpu") and not waits("tpu")


@pytest.mark.parametrize("of", ["cpu", "tpu"])
@pytest.mark.parametrize("uneven", [False, True])
def test_axis_name_shares_statistics_and_gradients(uneven, of):
    x, scale, bias, ct = example((8, 5, 4, 6))
    x = x + (10 * jnp.arange(8)[:, None, None, None] if uneven else 0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(axis_name, x, scale, bias, ct):
        y, mean, var = batch_norm(x, scale, bias, 1e-3, jnp.float32, axis_name, bias)
        total = jnp.sum(y * ct)
        return (total if axis_name is None else jax.lax.psum(total, axis_name)), (mean, var)

    whole, aux = jax.grad(partial(loss, None), (0, 1, 2), has_aux=True)(x, scale, bias, ct)
    island = jax.shard_map(
        jax.grad(partial(loss, "data"), (0, 1, 2), has_aux=True), mesh=mesh,
        in_specs=(P("data"), P(), P(), P("data")), out_specs=((P("data"), P(), P()), (P(), P())),
    )  # fmt: skip
    split, split_aux = jax.jit(for_platform(island, of))(x, scale, bias, ct)
    for a, b in zip(jax.tree.leaves((split, split_aux)), jax.tree.leaves((whole, aux))):
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4)
