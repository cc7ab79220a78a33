"""Parameters that are split over devices by rules: where they lie, and that a step gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from segjax import parallel
from segjax.errors import UserError
from segjax.training.checkpoints import Checkpoints
from segjax.training.optimizer import make_optimizer
from segjax.training.placement import place_state
from tests.training import fake_network


def test_the_longest_side_that_the_axis_divides_is_split():
    mesh = parallel.make_mesh({"data": 4, "space": 2})
    shapes = {"kernel": (3, 3, 64, 128), "square": (1, 1, 64, 64), "odd": (3, 3, 5, 7), "few": (8,), "kept": (256, 256)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    rules = (("kept", ""), ("square", "space"), (".*", "data"))
    found = parallel.split_by_rules(params, rules, mesh, what="param_rules", smallest=100)
    assert {name: tuple(sharding.spec) for name, sharding in found.items()} == {
        "kernel": (None, None, None, "data"), "square": (None, None, None, "space"), "odd": (), "few": (), "kept": (),
    }  # fmt: skip
    whole = parallel.split_by_rules(params, (), mesh, what="param_rules")
    assert all(sharding.spec == PartitionSpec() for sharding in whole.values())
    with pytest.raises(UserError, match="the axis 'dat', which the mesh lacks. Did you mean 'data'"):
        parallel.split_by_rules(params, ((".*", "dat"),), mesh, what="param_rules")


def test_a_step_gives_the_same_numbers():
    mesh = parallel.make_mesh({"data": 8})
    results = []
    for rules in ((), ((".*", "data"),)):
        step, state = fake_network.setup(constrain=parallel.constrain_images(mesh))
        of_params = parallel.split_by_rules(state.params, rules, mesh, what="param_rules", smallest=1)
        shardings = parallel.lay_out(state.params, of_params, mesh)
        assert any(sharding.spec != PartitionSpec() for sharding in of_params.values()) == bool(rules)
        state = jax.device_put(state, parallel.replicated(mesh))
        state = state.replace(params=jax.device_put(state.params, shardings))
        arrays = parallel.shard_batch(fake_network.batch(), mesh)
        state, metrics = jax.jit(step)(state, arrays, {})
        results.append(jax.device_get((state.params, metrics)))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_state_average_and_checkpoint_follow(tmp_path):
    """Every device holds its share of the moments, too, and a checkpoint is read whole or split."""
    mesh = parallel.make_mesh({"data": 8})
    rng = np.random.default_rng(0)
    params = {"conv": {"kernel": rng.normal(size=(3, 3, 64, 64)).astype(np.float32), "bias": np.ones(64, np.float32)}}
    variables = {"params": params, "batch_stats": {"conv": {"mean": np.zeros(64, np.float32)}}}
    optimizer = make_optimizer("adam", lambda step: 1e-3, params=params)
    rules = ((".*/kernel", "data"), (".*", ""))
    split = place_state(variables, optimizer, mesh, param_rules=rules, average=True)
    whole = place_state(variables, optimizer, mesh, average=True)
    for tree in (split.params, split.opt_state["mu"], split.opt_state["nu"], split.ema["params"]):
        assert tree["conv"]["kernel"].addressable_shards[0].data.shape == (3, 3, 64, 8)
        assert tree["conv"]["bias"].is_fully_replicated
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(whole))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(split, step=0, meta={})
        checkpoints.wait()
        for like in (split, whole):
            found, _ = checkpoints.restore(like)
            for a, b, place in zip(*map(jax.tree.leaves, (found, whole, like)), strict=True):
                assert a.sharding == place.sharding and np.array_equal(a, b)
