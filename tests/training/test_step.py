"""One training step gives the same numbers on any arrangement of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.training.step import LossTerm, total_loss
from segjax.typing import SegOutput, Sum
from tests.training import fake_network

DROPOUT_FREE = {"dropout": 0.0}


def run(axes: dict[str, int], **options):
    count = int(np.prod(list(axes.values())))
    mesh = parallel.make_mesh(axes, jax.devices()[:count])
    step, state = fake_network.setup(constrain=parallel.constrain_images(mesh), **options)
    state = jax.device_put(state, parallel.replicated(mesh))
    arrays = parallel.shard_batch(fake_network.batch(), mesh)
    state, metrics = jax.jit(step, out_shardings=parallel.replicated(mesh))(state, arrays)
    return jax.device_get((state.params, state.batch_stats, metrics))


def assert_close(got, wanted, tolerance):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        scale = max(np.abs(b).max(), 1e-3)
        assert np.abs(a - b).max() <= tolerance * scale, (jax.tree_util.keystr(path), np.abs(a - b).max(), scale)


@pytest.fixture(scope="module")
def one_device():
    return run({"data": 1})


@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 4, "space": 2}, {"data": 2, "space": 4}], ids=str)
def test_same_loss_gradients_and_statistics_as_one_device(one_device, axes):
    assert_close(run(axes), one_device, 1e-5)
