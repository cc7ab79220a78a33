"""Folders that orbax wrote: a tree of variables, parameters alone, a run; and what is none."""

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from segjax import weights
from segjax.errors import UserError


def variables(offset=0.0):
    kernel = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6) + offset
    return {
        "params": {"fc": {"kernel": kernel, "bias": np.ones(6, np.float32)}, "layer1.0": {"scale": np.ones(3)}},
        "batch_stats": {"layer1.0": {"mean": np.zeros(3, np.float32), "var": np.full(3, 2.0, np.float32)}},
    }


def store(folder, tree):
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder.resolve(), tree)


def equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: {"model": v, "step": np.array(3)}, lambda v: {"ema": {}, "opt_state": {}} | v]
)
def test_a_tree_of_variables(tmp_path, wrap):
    store(tmp_path / "tree", wrap(variables()))
    found, report = weights.load(tmp_path / "tree", variables(9.0))
    equal(found, variables())
    assert len(report.matched) == 5


def test_parameters_alone(tmp_path):
    store(tmp_path / "tree", variables()["params"])
    assert set(weights.read(tmp_path / "tree")) == {"fc.weight", "fc.bias", "layer1.0.weight"}


def test_the_newest_step_of_a_run_with_its_average(tmp_path):
    for step in (5, 10):
        tree = variables() | {"ema": variables(float(step)), "opt_state": {"trace": np.ones(3)}}
        store(tmp_path / "train" / "checkpoints" / str(step) / "state", tree)
    for path in (tmp_path, tmp_path / "train", tmp_path / "train" / "checkpoints"):
        equal(weights.load(path, variables())[0], variables(10.0))
    equal(weights.load(tmp_path / "train" / "checkpoints" / "5", variables())[0], variables(5.0))


def test_other_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="is a folder without an orbax checkpoint"):
        weights.read(tmp_path)
    store(tmp_path / "tree", {"opt_state": {"trace": np.ones(3)}})
    with pytest.raises(UserError, match="tree cannot be read as an orbax checkpoint of a network .*no params among"):
        weights.read(tmp_path / "tree")
    store(tmp_path / "damaged", variables())
    for path in (tmp_path / "damaged").rglob("*"):
        if path.is_file() and "METADATA" not in path.name:
            path.write_bytes(b"")
    with pytest.raises(UserError, match="damaged cannot be read"):
        weights.read(tmp_path / "damaged")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16, "int32", "uint8", "bool"])
def test_saved_weights_come_back_bit_for_bit(tmp_path, dtype):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (3, 3, 2, 5)) if dtype == "bool" else rng.integers(0, 120, (3, 3, 2, 5))
    tree = {"params": {"a": {"kernel": bits.astype(dtype)}, "b": {"scale": np.asarray(bits.flat[0]).astype(dtype)}}}
    path = weights.save(tmp_path / "w.safetensors", tree)
    for name, value in weights.to_state_dict(tree).items():
        assert weights.read(path)[name].dtype == value.dtype and weights.read(path)[name].shape == value.shape
        assert weights.read(path)[name].tobytes() == value.tobytes()


def test_a_file_says_which_network_it_belongs_to(tmp_path):
    info = {"model": {"name": "fastscnn", "num_classes": 3, "options": {"aux": True}}, "step": 7}
    path = weights.save(tmp_path / "w.safetensors", variables(), info=info)
    assert weights.read_info(path) == info
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    with pytest.raises(UserError, match=r"does not say which network .*export_weights"):
        weights.read_info(weights.save(tmp_path / "w.safetensors", variables()))
    with pytest.raises(UserError, match="only .safetensors"):
        weights.save(tmp_path / "w.npz", variables(), info=info)
    with pytest.raises(UserError, match=r"npz has no bfloat16 \(a.weight\); write .safetensors"):
        weights.save(tmp_path / "w.npz", {"params": {"a": {"scale": np.ones(3, ml_dtypes.bfloat16)}}})
    (tmp_path / "w.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="truncated"):
        weights.read_info(tmp_path / "w.safetensors")
