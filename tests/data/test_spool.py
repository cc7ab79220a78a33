"""Splits larger than any buffer: in order, in files that go away, without TensorFlow."""

import numpy as np

from segjax.data import open_source, spool
from tests.data_builders import mini_trees


def test_records_come_back_in_order_and_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_CHUNK", 50)
    rng = np.random.default_rng(0)
    records = [rng.bytes(int(length)) for length in rng.integers(0, 40, 30)]
    kept = spool.Spool(tmp_path)
    for key, data in enumerate(records):
        kept.add(key, data)
    files = len(list(tmp_path.iterdir()))
    assert files > 8 and kept.num_examples == 30 and kept.size == sum(map(len, records))
    seen = []
    for _, data in kept:
        seen.append(data)
        assert len(list(tmp_path.iterdir())) <= files
    assert seen == records and not list(tmp_path.iterdir())


def test_builds_go_through_it(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_CHUNK", 20_000)
    from tensorflow_datasets.core import shuffle

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)  # TFDS would need TensorFlow beyond it
    rng, names = np.random.default_rng(0), [f"x_{number:03d}" for number in range(12)]
    for split in ("train", "val"):
        for name in names:
            mini_trees.write(tmp_path / f"bdd/images/10k/{split}/{name}.jpg", mini_trees.image(rng))
            label = np.full(mini_trees.SIZE, int(name[2:]), np.uint8)
            mini_trees.write(tmp_path / f"bdd/labels/sem_seg/masks/{split}/{name}.png", label)
    options = {"source_dir": str(tmp_path / "bdd"), "partial": True}
    original = shuffle.Shuffler
    source = open_source("bdd100k", "train", data_dir=tmp_path / "data", builder_options=options)
    assert source.names == names and [record.label[0, 0] for record in source] == list(range(12))
    assert shuffle.Shuffler is original
    assert not list((tmp_path / "data").rglob("*.tmp"))
