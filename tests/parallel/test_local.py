"""Work of one process on its own devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.parallel.local import devices_of


@pytest.mark.parametrize(
    "batch, devices, used", [(1, 8, 1), (8, 8, 8), (6, 8, 6), (16, 8, 8), (9, 8, 3), (7, 4, 1), (6, 4, 3), (0, 8, 1)]
)
def test_devices_that_divide_a_batch(batch, devices, used):
    assert devices_of(batch, devices) == used


def test_batches_are_split_and_results_are_whole():
    weights = {"w": jnp.arange(3.0), "b": jnp.float32(1)}
    shapes = []

    def run(variables, batch):
        shapes.append(batch.shape)
        total = batch @ variables["w"] + variables["b"]
        return {"total": total, "none": None, "twice": jnp.stack([total, total], -1)}

    call = parallel.over_local_devices(run, weights)
    for rows, each in ((8, 1), (16, 2), (9, 3), (4, 1)):
        batch = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
        found = call(batch)
        assert shapes[-1] == (each, 3) and len(found["total"].sharding.device_set) == rows // each
        np.testing.assert_allclose(found["twice"][:, 1], batch @ np.arange(3) + 1, rtol=1e-5)
        assert found["none"] is None
    before = len(shapes)
    call(batch)
    assert len(shapes) == before  # compiled once


def test_one_row_stays_where_the_variables_are():
    call = parallel.over_local_devices(jax.jit(lambda v, x: x + v), jnp.float32(1))
    assert call(np.zeros((1, 2), np.float32)).sharding.device_set == {jax.devices()[0]}


def test_the_devices_exchange_nothing_and_variables_are_copied_once(monkeypatch):
    copies, put = [], jax.device_put

    def counted(x, *args):
        copies.append(x)
        return put(x, *args)

    monkeypatch.setattr(jax, "device_put", counted)
    variables = {"w": jnp.ones((2, 5))}
    call = parallel.over_local_devices(lambda v, x: jnp.argmax(x @ v["w"], -1), variables)
    for rows in (8, 4, 8, 2, 6):
        call(np.ones((rows, 3, 2), np.float32))
    assert sum(x is variables for x in copies) == 1
