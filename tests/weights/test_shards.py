"""Weights in shards: the same tensors as in one file; what is missing or damaged is one sentence."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from segjax import weights
from segjax.errors import UserError
from tests.weights.test_load import concrete, state_dict, variables
from tests.weights.test_torch_file import Tensor, write

NAMES = state_dict()
INDICES = [
    "model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json", "best.safetensors.index.json",
    "pytorch_model.bin.index.json",
]  # fmt: skip


def store(folder, index="model.safetensors.index.json", tensors=NAMES):
    """Three shards and their index."""
    folder.mkdir(exist_ok=True)
    stem, suffix = index.removesuffix(".index.json").rsplit(".", 1)
    places = {name: f"{stem}-{i % 3 + 1:05d}-of-00003.{suffix}" for i, name in enumerate(tensors)}
    for shard in set(places.values()):
        part = {name: value for name, value in tensors.items() if places[name] == shard}
        if suffix == "bin":
            write(folder / shard, {name: Tensor(value) for name, value in part.items()})
        else:
            safetensors.numpy.save_file(part, folder / shard)
    size = sum(value.nbytes for value in tensors.values())
    (folder / index).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}))
    (folder / "config.json").write_text("{}")
    return folder / index


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("by", ["folder", "index"])
def test_shards_are_one_file(tmp_path, caplog, index, by):
    path = store(tmp_path / "net", index)
    with caplog.at_level("INFO", logger="segjax"):
        found, report = weights.load(path if by == "index" else path.parent, concrete(variables()))
    for name, value in weights.to_state_dict(found).items():
        np.testing.assert_array_equal(value, NAMES[name])
    assert len(report.matched) == 8 and "8 tensors in 3 shards" in caplog.text
    assert weights.find(path).path == path and weights.find(path.parent).path == path.parent


def test_prefixes_and_half_precision_in_shards(tmp_path):
    half = {f"model.{name}": value.astype(ml_dtypes.bfloat16) for name, value in NAMES.items()}
    found, _ = weights.load(store(tmp_path, tensors=half), variables())
    for name, value in weights.to_state_dict(found).items():
        np.testing.assert_array_equal(value, half[f"model.{name}"].astype(np.float32))


def refused(path, *parts):
    with pytest.raises(UserError) as error:
        weights.read(path)
    assert all(part in str(error.value) for part in parts), str(error.value)
    assert "\n" not in str(error.value)


def test_missing_shards_are_named_and_counted(tmp_path):
    index = store(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    for path in (index, tmp_path):
        refused(path, "1 of the 3 shards", str(index), "model-00002-of-00003.safetensors", "fetch them too")


@pytest.mark.parametrize("length", [0, 5, 100])
def test_a_damaged_shard_is_named(tmp_path, length):
    index = store(tmp_path)
    shard = tmp_path / "model-00003-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:length])
    refused(index, str(shard), "truncated")


def test_a_shard_without_its_tensors_is_named(tmp_path):
    index = store(tmp_path)
    (tmp_path / "model-00001-of-00003.safetensors").write_bytes(
        (tmp_path / "model-00002-of-00003.safetensors").read_bytes()
    )
    refused(index, "model-00001-of-00003.safetensors lacks 3 tensors", index.name, "fetch both again")


def test_tensors_that_the_index_does_not_have_are_counted(tmp_path, caplog):
    index = store(tmp_path)
    shard = tmp_path / "model-00001-of-00003.safetensors"
    safetensors.numpy.save_file(safetensors.numpy.load_file(shard) | {"old": np.ones(2, np.float32)}, shard)
    assert set(weights.read(index)) == set(NAMES)
    assert "1 tensors of its shards are not in the index and are skipped" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {"a": 3}}',
     '{"weight_map": {"a": ""}}', '{"weight_map": "abc"}', "\xff"],
)  # fmt: skip
def test_a_damaged_index_is_named(tmp_path, text):
    index = store(tmp_path)
    index.write_bytes(text.encode("latin1"))
    refused(index, str(index), "truncated or no index of shards")


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "a\x00b"])
def test_an_index_reads_only_what_is_beside_it(tmp_path, place):
    index = store(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    refused(index, str(index))


def test_several_indices_and_loose_files_are_named(tmp_path):
    store(tmp_path / "two")
    store(tmp_path / "two", "model.fp16.safetensors.index.json")
    refused(tmp_path / "two", "2 indices of shards", "model.fp16.safetensors.index.json", "give the path of one")
    store(tmp_path / "both")
    store(tmp_path / "both", "pytorch_model.bin.index.json", {"other": np.ones(3, np.float32)})
    assert set(weights.read(tmp_path / "both")) == set(NAMES)
    (tmp_path / "loose").mkdir()
    weights.save(tmp_path / "loose" / "model.safetensors", concrete(variables()))
    refused(tmp_path / "loose", "without an orbax checkpoint or an index of shards", "(model.safetensors)")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "without an orbax checkpoint", "a weight file, or a run that has trained")


@pytest.mark.parametrize(
    "place, message",
    [
        ("x.safetensors.index.json", "which is an index of shards itself"),
        ("y.bin.index.json", "which is an index of shards itself"),
        ("a" * 300, r"1 of the 1 shards .* not beside it \(a{120}\.\.\.\)"),
        ("a\0", "not beside it"),
        ("\ud800", "not beside it"),
        (float("inf"), "names no files"),
        ([["a"]], "names no files"),
    ],
    ids=range(7),
)
def test_an_index_of_names_that_no_shard_can_have_is_one_sentence(tmp_path, place, message):
    """An index that names itself was read within itself; a name too long was an error of the system."""
    index = tmp_path / "x.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(UserError, match=message) as error:
        weights.read(index)
    assert str(index) in str(error.value) and "\n" not in str(error.value)


NO_INDEX = ("[" * 100_000, "Infinity", '{"weight_map": "a"}', '{"weight_map": [1e999]}', "\0", "")


@pytest.mark.parametrize("text", NO_INDEX, ids=range(len(NO_INDEX)))
def test_an_index_that_is_none_is_one_sentence(tmp_path, text):
    (tmp_path / "x.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match="truncated or no index of shards .*; fetch it again"):
        weights.read(tmp_path / "x.safetensors.index.json")
