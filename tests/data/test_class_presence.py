"""Pixels of each class in each record of a built dataset: scanned once, kept, scanned again when the files change."""

import logging
import os
import re

import numpy as np
import pytest

from segjax.data import build_dataset, class_presence, open_source
from segjax.data.class_presence import class_pixels, raw_pixels
from segjax.data.classes import ClassTable, Label
from segjax.data.label_map import LabelMap
from segjax.errors import UserError

LABELLED = tuple(range(40))
OPTIONS = dict(count=40, labelled=LABELLED, size=20)
OWN = LabelMap(ClassTable((Label(7, "a", 0, (0, 0, 1)), Label(9, "b", 1, (0, 0, 2)), Label(300, "no", 255, (0, 0, 3)))))


@pytest.fixture
def scans(monkeypatch):
    """Splits whose labels were scanned."""
    found = []
    monkeypatch.setattr(class_presence, "ordered_map", lambda f, rows: (found.append(len(rows)), map(f, rows))[1])
    monkeypatch.setattr(class_presence, "_KEPT", {})
    return found


def masks(seed=0):
    return np.random.default_rng(seed).choice([7, 9, 300], (6, 5, 8), p=[0.1, 0.3, 0.6]).astype(np.uint16)


def folder_with_records(tmp_path):
    (tmp_path / "toy-train.array_record-00000-of-00001").write_bytes(b"records")
    (tmp_path / "toy-test.array_record-00000-of-00001").write_bytes(b"other")
    return tmp_path


def test_pixels_are_counted_once_and_kept(tmp_path, scans, caplog):
    caplog.set_level(logging.INFO, logger="segjax")
    folder, found, labelled = folder_with_records(tmp_path), masks(), np.array([1, 1, 0, 1, 1, 1], bool)
    counts = raw_pixels(folder, "train", OWN, labelled, lambda row: (found[row], str(row)))
    expected = [[(mask == raw).sum() * on for raw in (7, 9, 300)] for mask, on in zip(found, labelled)]
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.uint32 and scans == [5] and "5 labels of split train" in caplog.text
    again = raw_pixels(folder, "train", OWN, labelled, lambda row: pytest.fail("read again"))
    np.testing.assert_array_equal(again, expected)
    (folder / "toy-test.array_record-00000-of-00001").write_bytes(b"changed")
    raw_pixels(folder, "train", OWN, labelled, lambda row: pytest.fail("read again"))
    assert scans == [5] and not list(folder.glob(".*"))


@pytest.mark.parametrize("change", ["size", "time", "shards", "map", "damage"])
def test_what_is_out_of_date_is_scanned_again(tmp_path, scans, change, caplog):
    folder, labelled, own = folder_with_records(tmp_path), np.ones(6, bool), OWN
    raw_pixels(folder, "train", own, labelled, lambda row: (masks()[row], ""))
    file, kept = folder / "toy-train.array_record-00000-of-00001", folder / "presence-train.npz"
    if change == "size":
        file.write_bytes(b"other records")
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "shards":
        file.rename(folder / "toy-train.array_record-00000-of-00002")
    elif change == "map":
        own = LabelMap(ClassTable((*OWN.table.labels, Label(3, "c", 2, (0, 0, 4)))))
    else:
        kept.write_bytes(kept.read_bytes()[:100])
    counts = raw_pixels(folder, "train", own, labelled, lambda row: (masks(1)[row], ""))
    assert scans == [6, 6] and counts[0, 0] == (masks(1)[0] == 7).sum()
    assert ("damaged and is written again" in caplog.text) == (change == "damage")
    raw_pixels(folder, "train", own, labelled, lambda row: pytest.fail("read again"))


def test_a_folder_that_cannot_be_written_is_kept_in_memory(tmp_path, scans, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="segjax")
    folder, labelled = folder_with_records(tmp_path), np.ones(6, bool)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(class_presence, "replacing", refuse)
    for _ in range(3):
        counts = raw_pixels(folder, "train", OWN, labelled, lambda row: (masks()[row], ""))
    assert scans == [6] and counts[2, 1] == (masks()[2] == 9).sum()
    assert not (folder / "presence-train.npz").exists()
    assert re.search(r"presence-train.npz cannot be written \(Permission denied\): the next run", caplog.text)


def test_unknown_ids_are_named(tmp_path):
    with pytest.raises(UserError, match=r"the mask of x holds ids 8 \(40 pixels\)"):
        raw_pixels(tmp_path, "train", OWN, np.ones(1, bool), lambda row: (np.full((5, 8), 8), "the mask of x"))
    assert not list(tmp_path.iterdir())


def test_another_map_joins_and_ignores_ids():
    joined = LabelMap(
        ClassTable((Label(7, "b", 1, (0, 0, 1)), Label(9, "x", 255, (0, 0, 2)), Label(300, "c", 0, (0, 0, 3))))
    )
    one = LabelMap(
        ClassTable((Label(7, "a", 0, (0, 0, 1)), Label(9, "a", 0, (0, 0, 2)), Label(300, "no", 255, (0, 0, 3))))
    )
    counts = np.array([[1, 2, 4], [8, 16, 2**32 - 1]], np.uint32)
    assert class_pixels(counts, OWN, OWN).tolist() == [[1, 2], [8, 16]]
    assert class_pixels(counts, OWN, joined).tolist() == [[4, 1], [2**32 - 1, 8]]
    assert class_pixels(counts, OWN, one).tolist() == [[3], [24]]


def test_shots_of_a_built_dataset(data_dir, scans):
    """Against the labels as they are read: each class has its images, and the file lies beside the index."""
    whole = open_source("toy", "train", data_dir=data_dir, builder_options=OPTIONS)
    assert scans == []  # other splits need no scan
    few = open_source("toy", "train@3shot,seed=2", data_dir=data_dir, builder_options=OPTIONS)
    assert len(few) == len(set(few.names)) == 3 * 11 and set(few.names) <= set(whole.names)
    shown = np.array([[(few[i].label == c).sum() >= 16 for c in range(11)] for i in range(len(few))])
    assert (shown.sum(axis=0) >= 3).all()
    less = open_source("toy", "train@1shot,seed=2", data_dir=data_dir, builder_options=OPTIONS)
    assert len(less) == 11 and set(less.names) < set(few.names)
    assert scans == [40]
    folder = build_dataset("toy", data_dir=data_dir, builder_options=OPTIONS)
    with np.load(folder / "presence-train.npz") as arrays:
        assert arrays["counts"].shape == (40, 12) and arrays["counts"][0].sum() == whole[0].label.size
    with pytest.raises(UserError, match="needs 20 images of each of .* and 3 more, but .* only 40; write 3 at"):
        open_source("toy", "train@20shot", data_dir=data_dir, builder_options=OPTIONS)
