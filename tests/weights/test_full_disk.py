"""A file that cannot be written whole: one sentence, the older file is kept, and no part is left."""

import contextlib
import resource

import numpy as np
import pytest

from segjax import weights
from segjax.data import LabelMap
from segjax.errors import UserError

TREE = {"params": {"a": {"kernel": np.ones((3, 3, 100, 200), np.float32)}}}


@contextlib.contextmanager
def at_most(size):
    """No file may have more bytes, as if the disk were full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_weights(tmp_path, name):
    (tmp_path / name).write_bytes(b"older")
    with at_most(100_000), pytest.raises(UserError, match=f"{name} cannot be written .File too large"):
        weights.save(tmp_path / name, TREE)
    assert (tmp_path / name).read_bytes() == b"older" and [path.name for path in tmp_path.iterdir()] == [name]


def test_a_label_map(tmp_path):
    path = tmp_path / "map.json"
    LabelMap.open("camvid").save(path)
    with at_most(100), pytest.raises(OSError, match="File too large"):
        LabelMap.open("cityscapes").save(path)
    assert LabelMap.open(path).class_names == LabelMap.open("camvid").class_names
    assert [path.name for path in tmp_path.iterdir()] == ["map.json"]
