import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from segjax.errors import UserError
from segjax.parallel import axis_size, batch_part, batch_sharding, fetch_replicated, make_mesh, replicated, shard_batch


@pytest.mark.parametrize(
    "axes, shape",
    [
        ({"data": -1}, {"data": 8}),
        ({"data": -1, "space": 1}, {"data": 8, "space": 1}),
        ({"data": -1, "space": 2}, {"data": 4, "space": 2}),
        ({"data": 2, "space": -1}, {"data": 2, "space": 4}),
        ({"data": 4, "space": 2}, {"data": 4, "space": 2}),
    ],
)
def test_axes_are_filled(axes, shape):
    mesh = make_mesh(axes)
    assert dict(mesh.shape) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert axis_size(mesh, "data") == shape["data"] and axis_size(mesh, "model") == 1


def test_a_small_mesh_leaves_devices_idle_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, "segjax"):
        assert make_mesh({"data": 1, "space": 1}).size == 1
    assert "uses 1 of 8 devices" in caplog.text


@pytest.mark.parametrize(
    "axes, message",
    [
        ({"data": 16}, r"needs 16 devices and jax has 8.*config.mesh.*device_count=16"),
        ({"data": -1, "space": 16}, r"needs 16 devices and jax has 8"),
        ({"data": -1, "space": 3}, r"8 devices are not a multiple of 3"),
        ({"data": -1, "space": -1}, r"only one axis"),
        ({"data": 0}, r"every axis needs a size"),
        ({"data": 2.0}, r"every axis needs a size"),
        ({}, r"every axis needs a size"),
    ],
)
def test_counts_that_do_not_fit_are_one_sentence(axes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(axes)


@settings(max_examples=30)
@given(data=st.sampled_from([1, 2, 4, 8]), rows=st.integers(1, 3), rank=st.integers(1, 4))
def test_shard_batch_keeps_rows_in_order_over_the_devices(data, rows, rank):
    mesh = make_mesh({"data": data, "space": 8 // data})
    x = np.random.default_rng(rank).integers(0, 255, (rows * data, *range(3, 2 + rank)), dtype=np.uint8)
    y = shard_batch({"x": x}, mesh)["x"]
    assert y.sharding.is_equivalent_to(batch_sharding(mesh, x.ndim), x.ndim)
    np.testing.assert_array_equal(y, x)
    for shard in y.addressable_shards:
        place = int(np.argwhere(mesh.devices == shard.device)[0, 0])
        np.testing.assert_array_equal(shard.data, x[place * rows : (place + 1) * rows])


def test_a_batch_that_cannot_be_shared_out_names_batch_size():
    with pytest.raises(UserError, match=r"a batch of 12 \(its 'image'\) .* batch_size a multiple of 8"):
        shard_batch({"image": np.zeros((12, 2))}, make_mesh({"data": -1}))


def test_height_is_split_over_space_where_there_is_space():
    x = np.arange(4 * 8 * 3, dtype=np.float32).reshape(4, 8, 3)
    mesh = make_mesh({"data": 2, "space": 4})
    y = jax.device_put(x, batch_sharding(mesh, 3, space_axis=1))
    assert {shard.data.shape for shard in y.addressable_shards} == {(2, 2, 3)}
    assert batch_sharding(make_mesh({"data": -1}), 3, space_axis=1).spec == PartitionSpec("data", None, None)
    assert batch_sharding(make_mesh({"space": -1}), 3, space_axis=1).spec == PartitionSpec(None, "space", None)


def test_one_process_loads_the_whole_batch():
    assert batch_part(make_mesh({"data": 4, "space": 2})) == (0, 1)


def fake_mesh(processes, axes=("data", "space")):
    """A mesh of devices that belong to the given processes."""
    devices = np.vectorize(lambda p: SimpleNamespace(process_index=p), otypes=[object])(np.array(processes))
    return SimpleNamespace(devices=devices, shape=dict(zip(axes, devices.shape)))


@pytest.mark.parametrize(
    "processes, parts",
    [
        ([[0, 0], [0, 0], [1, 1], [1, 1]], [(0, 2), (1, 2)]),
        ([[1, 1], [0, 0]], [(1, 2), (0, 2)]),  # a topology that places process 1 first
        ([[0, 0, 1, 1], [2, 2, 3, 3]], [(0, 2), (0, 2), (1, 2), (1, 2)]),  # the height of a row spans two processes
        ([[0, 1]], [(0, 1), (0, 1)]),
        ([[0, 0], [1, 1], [0, 0], [1, 1]], [(0, 2), (1, 2)]),
    ],
)
def test_every_process_knows_its_rows(monkeypatch, processes, parts):
    for index, part in enumerate(parts):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        assert batch_part(fake_mesh(processes)) == part


@pytest.mark.parametrize("processes", [[[0], [0], [1]], [[0, 0], [0, 1], [1, 1]]])
def test_an_uneven_split_over_processes_is_refused(processes):
    with pytest.raises(UserError, match="unevenly over 2 processes"):
        batch_part(fake_mesh(processes))


def test_fetch_replicated_takes_replicated_arrays_only():
    mesh = make_mesh({"data": -1})
    tree = {"a": jax.device_put(jnp.arange(3), replicated(mesh)), "b": 2.0}
    found = fetch_replicated(tree)
    assert isinstance(found["a"], np.ndarray) and found["b"] == 2.0
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    with pytest.raises(ValueError, match="not replicated"):
        fetch_replicated(jax.device_put(jnp.arange(8), batch_sharding(mesh, 1)))


def test_the_mean_over_a_sharded_batch_is_the_mean():
    mesh = make_mesh({"data": 4, "space": 2})
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    total = jax.jit(lambda b: b["x"].mean(), out_shardings=replicated(mesh))(shard_batch({"x": x}, mesh))
    np.testing.assert_allclose(fetch_replicated(total), x.mean(), rtol=1e-6)
