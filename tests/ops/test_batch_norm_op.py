"""batch_norm: the written-out backward pass, accuracy, bfloat16 and shared statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs.collectives import collectives
from segjax.models.layers import BatchNorm
from segjax.ops import batch_norm, for_platform
from segjax.ops.batch_norm import batch_moments, batch_norm_again
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


@pytest.mark.parametrize("distance", [0, 1, 10, 100])
def test_one_pass_loses_no_more_digits_than_documented(distance):
    """A first batch, whose running mean is 0; after 50 updates of the running mean the digits are back."""
    x = (np.random.default_rng(0).standard_normal((2, 16, 16, 64)) + distance).astype(np.float32)
    wanted = x.astype(np.float64).var((0, 1, 2))

    def error(near):
        with made_for("tpu"):
            return np.abs(batch_moments(x, near=jnp.full(64, near, jnp.float32))[1] / wanted - 1).max()

    assert error(0.0) < 2**-21 * (1 + distance**2)
    assert error(distance * (1 - 0.9**50)) < 2**-20
    assert distance < 10 or error(0.0) > 1e-6  # so that the first bound is not an empty one


@pytest.mark.parametrize("of, groups", [("cpu", 2), ("tpu", 3), ("tpu", 6)])
def test_groups_are_normalised_as_batches_of_their_own(groups, of):
    """Values, statistics and gradients; the groups differ in mean and deviation. Known statistics give the same."""
    rng = np.random.default_rng(0)
    x, ct = rng.standard_normal((2, 6, 5, 3, 4))
    x = x * np.arange(1, 7)[:, None, None, None] + 3 * np.arange(6)[:, None, None, None]
    scale, bias = rng.standard_normal((2, 4))

    def run(x, ct, groups=1):
        (y, *moments), backward = jax.vjp(
            lambda *a: batch_norm(*a, 1e-3, x.dtype, None, jnp.full(4, 0.2), groups), x, scale, bias
        )
        again, backward_again = jax.vjp(lambda *a: batch_norm_again(*a, *moments, 1e-3, x.dtype), x, scale, bias)
        dx, *rest = backward((ct, *map(jnp.zeros_like, moments)))
        return (y, dx), moments, rest, (again, *backward_again(ct))

    with jax.enable_x64(True):
        maps, moments, rest, again = jax.device_get(jax.jit(for_platform(partial(run, groups=groups), of))(x, ct))
        each = jax.jit(for_platform(run, of))
        each = [jax.device_get(each(*pair)) for pair in zip(np.split(x, groups), np.split(ct, groups))]
    close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    for n in range(2):
        close(maps[n], np.concatenate([one[0][n] for one in each]))
        close(moments[n], np.stack([one[1][n] for one in each]))
        close(rest[n], np.sum([one[2][n] for one in each], axis=0))
    jax.tree.map(close, again, (*maps, *rest))


def test_a_group_of_one_value_and_wrong_groups():
    y, mean, var = batch_norm(jnp.ones((3, 2)), jnp.ones(2), jnp.zeros(2), 1e-5, groups=3)
    assert mean.shape == var.shape == (3, 2) and not y.any()
    for options in (dict(groups=2), dict(groups=3, axis_name="data")):
        with pytest.raises(ValueError, match="groups="):
            batch_moments(jnp.ones((3, 2)), **options)


def messages(mesh, groups, of):
    """Messages for (the maps y and dx, all results), as each device's program contains them."""
    spec = P("data", "space") if "space" in mesh.shape else P("data")
    spread, whole = NamedSharding(mesh, spec), NamedSharding(mesh, P())
    x = jax.ShapeDtypeStruct((16, 8, 4, 6), jnp.float32, sharding=spread)
    c = jax.ShapeDtypeStruct((6,), jnp.float32, sharding=whole)

    def run(x, scale, bias, near, ct):
        y, backward, moments = jax.vjp(
            lambda *a: (lambda y, *moments: (y, moments))(*batch_norm(*a, 1e-5, near=near, groups=groups)),
            x, scale, bias, has_aux=True,
        )  # fmt: skip
        dx, *rest = backward(ct)
        return (y, dx), (rest, [moment.reshape(-1, 6).mean(0) for moment in moments])

    def count(pick, out):
        step = for_platform(lambda *a: pick(run(*a)), of)
        return collectives(jax.jit(step, out_shardings=out).lower(x, c, c, c, x).compile().as_text())

    return count(lambda found: found[0], spread), count(lambda found: found, ((spread, spread), whole))


@pytest.mark.parametrize(
    "axes, groups, maps, together",
    [
        ({"data": 8}, 1, 2, 2),
        ({"data": 8}, 4, 2, 3),  # each of the two is between two devices
        ({"data": 8}, 8, 0, 1),
        ({"data": 8}, 16, 0, 1),
        ({"data": 4, "space": 2}, 1, 4, 4),  # one message along each axis
        ({"data": 4, "space": 2}, 4, 2, 3),
    ],
)
def test_groups_of_a_device_exchange_nothing_before_the_end(axes, groups, maps, together):
    """For the maps, which the next layer waits for: parameters' gradients and statistics are sent in one message."""
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))
    first, all_ = messages(mesh, groups, "tpu")
    assert (len(first), len(all_)) == (maps, together)
    assert {one.kind for one in (*first, *all_)} <= {"all-reduce"}
    assert max((one.payload for one in all_), default=0) <= 16 * 6 * 4  # small arrays, and no map


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
