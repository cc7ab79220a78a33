"""Damaged notes, indices and descriptions: done again, scanned again, or named with what to delete."""

import json
import logging
import random
import shutil

import numpy as np
import pytest

from segjax.data import TfdsSource
from segjax.data.array_file import read_arrays
from segjax.data.catalogue import find_begun, find_built
from segjax.data.derived import open_derived, open_propagated, provenance_file
from segjax.errors import UserError
from segjax.files import begin, read_json, read_note, write_note
from tests.data.shard_tools import contents, finish, shards
from tests.data.test_image_fuzz import mutate

DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "list": lambda data: b"[]",
    "number": lambda data: b"1e999",
    "object": lambda data: b"{}",
    "tower": lambda data: b"[" * 100_000,
    "bytes": lambda data: b"\xff\xfe\x00\xd8" + data,
}
CONTENT = {"lengths": {"jp": 3}, "steps": [1, -1, 2], "name": "größe", "share": 0.1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    made = shards(folder)
    made.open()
    for number in range(2):
        made.write(number, contents(number), {})
    return finish(made, 2)


@pytest.fixture
def dataset(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "built")


def damage(path, how):
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE)
def test_a_shard_with_a_damaged_note_is_not_done(tmp_path, how, caplog):
    made = shards(tmp_path)
    made.open()
    for number in range(2):
        made.write(number, contents(number), {"carried": 3})
    note = tmp_path / "shards/00001.json"
    damage(note, how)
    assert made.summary(0)["carried"] == 3 and made.summary(1) is None
    assert caplog.messages == [f"{note} is damaged; what it says to be done is done again"]
    with pytest.raises(UserError, match="shard 1 in .* is not done; run the same command again"):
        made.finish(2)
    made.write(1, contents(1), {"carried": 3})
    assert len(TfdsSource(finish(made, 2), "jp")) == 6


def test_a_shard_without_its_files_is_not_done(tmp_path):
    made = shards(tmp_path)
    made.open()
    made.write(0, contents(0), {})
    (tmp_path / "shards/00000-lp.array_record").unlink()
    assert made.summary(0) is None
    made.write(0, contents(0), {})
    finish(made, 1)
    assert made.summary(0)["lengths"] == {"jp": 3, "lp": 3}  # its files are in the dataset now


def test_a_note_that_is_damaged_after_the_end_changes_nothing(tmp_path):
    made = shards(tmp_path)
    made.open()
    made.write(0, contents(0), {})
    whole = {path.name: path.read_bytes() for path in finish(made, 1).iterdir()}
    damage(tmp_path / "shards/00000.json", "cut")
    assert made.summary(0) is None
    made.write(0, contents(0), {})
    assert {path.name: path.read_bytes() for path in finish(made, 1).iterdir()} == whole
    assert not list((tmp_path / "shards").glob("*.array_record"))


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_settings_say_what_to_delete(tmp_path, how):
    made = shards(tmp_path)
    made.open()
    damage(tmp_path / "shards/identity.json", how)
    with pytest.raises(UserError, match="was begun with other settings .*; delete the folder to start again") as error:
        made.open()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["empty", "cut", "list", "tower"])
def test_a_damaged_index_is_scanned_again_and_written(dataset, how, caplog):
    path = dataset / "index-jp.npz"
    whole = read_arrays(path)
    damage(path, how)
    for _ in range(2):
        source = TfdsSource(dataset, "jp")
        assert source.names == whole["names"].tolist() and source.sizes.tolist() == whole["sizes"].tolist()
    assert len(caplog.messages) == 1 and "index-jp.npz is damaged" in caplog.text and "scanned again" in caplog.text
    assert all((read_arrays(path)[name] == whole[name]).all() for name in whole)


def test_an_index_of_other_records_is_scanned_again(dataset, caplog):
    path = dataset / "index-jp.npz"
    arrays = read_arrays(path)
    for wrong in (
        {name: array[:-1] for name, array in arrays.items()},
        {**arrays, "frames": arrays["frames"].astype(float)},
        {**arrays, "sizes": arrays["sizes"][:, :1]},
        {name: array for name, array in arrays.items() if name != "labelled"},
        {**arrays, "more": arrays["frames"]},
    ):
        np.savez(path, **wrong)
        assert len(TfdsSource(dataset, "jp")) == 6
    assert len(caplog.messages) == 5


def test_an_index_in_a_folder_that_cannot_be_written(dataset, caplog, monkeypatch):
    damage(dataset / "index-jp.npz", "cut")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("segjax.data.tfds_index._save", refuse)
    with caplog.at_level(logging.INFO, logger="segjax"):
        assert len(TfdsSource(dataset, "jp")) == 6
    assert "cannot be written (Permission denied): the next run scans again" in caplog.text


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
def test_a_damaged_description_says_what_to_delete(dataset, name, how):
    damage(dataset / name, how)
    for read in (lambda: TfdsSource(dataset, "jp"), lambda: open_derived(dataset)):
        try:
            read()
        except UserError as error:
            sentence = str(error)
            assert "\n" not in sentence and (name in sentence or "stores no label map" in sentence)
            assert how == "object" or sentence.endswith(f"; delete the folder {dataset}, it is built again")
        else:
            assert (name, how) == ("metadata.json", "object"), "is read"


def test_a_description_of_a_stage_is_deleted_with_its_shards(finished):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segjax.data.tfds_builder.read_json", lambda path: [])
        with pytest.raises(UserError, match=f"delete the folder {finished.parent}, it is built again"):
            open_derived(finished)


@pytest.mark.parametrize("how", DAMAGE)
def test_the_list_of_datasets_leaves_damaged_builds_out(tmp_path, how, caplog):
    build, begun = tmp_path / "a/1.0.0", tmp_path / "b/.building-host/shards"
    for folder in (build, begun):
        folder.mkdir(parents=True)
    info = {"splits": [{"name": "train", "shardLengths": ["2", "3"]}]}
    (build / "dataset_info.json").write_text(json.dumps(info))
    write_note(begun / "train-00000.json", {"records": 3, "bytes": 9, "identity": "x"})
    assert find_built(tmp_path)[0].images == {"train": 5} and find_begun(tmp_path)[0].images == {"records": 3}
    damage(build / "dataset_info.json", how)
    damage(begun / "train-00000.json", how)
    assert [built.images for built in find_built(tmp_path)] == ([{}] if how == "object" else [])
    assert find_begun(tmp_path) == [] and "train-00000.json is damaged" in caplog.text


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_provenance_says_what_to_delete(dataset, how):
    damage(dataset / provenance_file("jp"), how)
    with pytest.raises(UserError, match=f"provenance-jp.npz is damaged .*; delete the folder {dataset}, it is built"):
        open_propagated(dataset, mode="jp", steps=(1,))


def test_an_array_file_of_zeros_and_one_of_objects(tmp_path):
    np.savez_compressed(tmp_path / "zeros.npz", a=np.zeros(1 << 27, np.uint8))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    for name, words in (("zeros.npz", "expands from"), ("objects.npz", "allow_pickle")):
        with pytest.raises(ValueError, match=f"{name} is damaged .*{words}"):
            read_arrays(tmp_path / name)


def test_mutated_notes_are_whole_or_not_done(tmp_path, caplog):
    path, chance, whole = tmp_path / "note.json", random.Random(17), 0
    write_note(path, CONTENT)
    data = path.read_bytes()
    assert read_note(path) == CONTENT and read_note(tmp_path / "none.json") is None and not caplog.messages
    for _ in range(150):
        path.write_bytes(mutate(data, chance))
        found = read_note(path)
        whole += found is not None
        assert found in (None, CONTENT)
    assert whole < 15


def test_mutated_settings_are_the_same_or_refused(tmp_path):
    path, chance = tmp_path / "note.json", random.Random(17)
    begin(path, CONTENT, remedy="r")
    data = path.read_bytes()
    for _ in range(80):
        path.write_bytes(mutate(data, chance))
        try:
            assert not begin(path, CONTENT, remedy="delete it")
        except UserError as error:
            assert str(error).endswith("; delete it") and "\n" not in str(error)
        else:
            assert read_json(path) == CONTENT


def test_mutated_arrays_are_whole_or_damaged(finished, tmp_path):
    path, chance = tmp_path / "a.npz", random.Random(17)
    data = (finished / "index-jp.npz").read_bytes()
    whole = read_arrays(finished / "index-jp.npz")
    for _ in range(80):
        path.write_bytes(mutate(data, chance))
        try:
            found = read_arrays(path, whole)
        except ValueError as error:
            assert "a.npz" in str(error)
        else:  # zip keeps a checksum of each array
            assert all((found[name] == whole[name]).all() for name in whole)


def change(content, chance):
    """Replaces or removes one value anywhere in a JSON object, which stays one."""
    places = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(content)
    node, key = chance.choice(places)
    if chance.random() < 0.3:
        del node[key]
    else:
        node[key] = chance.choice([None, 0, -1, 3, "", "x", "1", [], [[]], {}, {"a": 1}, 1e999, True, 10**20])
    return content


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
def test_changed_descriptions_are_read_or_named(dataset, name):
    chance, data = random.Random(17), (dataset / name).read_bytes()
    for number in range(24):
        changed = mutate(data, chance) if number % 3 == 0 else json.dumps(change(json.loads(data), chance)).encode()
        (dataset / name).write_bytes(changed)
        for read in (
            lambda: TfdsSource(dataset, "jp")[0],
            lambda: open_propagated(dataset, mode="jp", steps=(1,)),
            lambda: find_built(dataset.parent.parent),
        ):
            try:
                read()
            except UserError as error:
                assert "\n" not in str(error)


def test_a_description_without_a_feature_of_every_record(dataset):
    path = dataset / "features.json"
    content = read_json(path)
    del content["featuresDict"]["features"]["sequence"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="stores no 'sequence' of its records; delete the folder"):
        TfdsSource(dataset, "jp")
