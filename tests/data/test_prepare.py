"""Preparation goes on where it was stopped: finished shards of the same files stay, and the records are the same."""

import numpy as np
import pytest

from segjax import cli
from segjax.data import open_source, prepare
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from tests.data_builders import mini_trees


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 2)):
        for number in range(count):
            name = f"x_{number:03d}"
            mini_trees.write(tmp_path / f"bdd/images/10k/{split}/{name}.jpg", mini_trees.image(rng))
            label = np.full(mini_trees.SIZE, number % 19, np.uint8)
            mini_trees.write(tmp_path / f"bdd/labels/sem_seg/masks/{split}/{name}.png", label)
    return tmp_path / "bdd"


@pytest.fixture
def opened(tree, tmp_path, monkeypatch):
    """Opens the tree as if it were complete, so that a change of a file does not make another build."""
    from data_builders.bdd100k import bdd100k_dataset_builder

    monkeypatch.setattr(prepare, "SHARD_BYTES", 12_000)  # 3 or 4 records
    monkeypatch.setitem(bdd100k_dataset_builder.ABOUT.images, "train", 24)
    monkeypatch.setitem(bdd100k_dataset_builder.ABOUT.images, "validation", 2)
    options = {"source_dir": str(tree)}
    return lambda place="data": open_source("bdd100k", "train", data_dir=tmp_path / place, builder_options=options)


def shards(tmp_path, place="data"):
    return sorted((tmp_path / place).rglob(".building-*/shards/train-*.array_record"))


def test_it_goes_on_after_the_finished_shards(tree, opened, tmp_path, capfd):
    damaged = tree / "images/10k/train/x_017.jpg"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:100])
    with pytest.raises(UserError, match="x_017.jpg"):
        opened()
    kept = {path.name: path.stat().st_mtime_ns for path in shards(tmp_path)}
    assert len(kept) >= 3 and not list((tmp_path / "data").rglob("dataset_info.json"))
    assert cli.main(["datasets", "bdd100k", f"--data-dir={tmp_path}/data"]) == 0
    assert "  begun     " in capfd.readouterr().out

    damaged.write_bytes(good)
    asked = []
    original = prepare._counted
    monkey = lambda records, split, position, examples: (  # noqa: E731
        asked.append((split, position)),
        original(records, split, position, examples),
    )[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_counted", monkey)
        source = opened()
    assert "going on after" in capfd.readouterr().err
    assert dict(asked)["train"] >= 9 and dict(asked)["validation"] == 0
    assert not list((tmp_path / "data").rglob(".building-*"))
    whole = opened("fresh")
    assert source.names == whole.names == [f"x_{number:03d}" for number in range(24)]
    for record, other in zip(source, whole):
        np.testing.assert_array_equal(record.image, other.image)
        assert (record.label == int(record.name[2:]) % 19).all()
    files = [sorted(x.directory.glob("*.array_record*")) for x in (source, whole)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_shards_of_files_that_have_changed_are_written_again(tree, opened, tmp_path):
    damaged = tree / "images/10k/train/x_017.jpg"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:100])
    with pytest.raises(UserError):
        opened()
    damaged.write_bytes(good)
    changed = tree / "labels/sem_seg/masks/train/x_005.png"
    changed.write_bytes(encode_png(np.full(mini_trees.SIZE, 18, np.uint8)))
    source = opened()
    assert [int(record.label[0, 0]) for record in source] == [*range(5), 18, *range(6, 19), *range(5)]
