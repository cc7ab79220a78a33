"""Splits by name: divisions, slices, few-shot subsets and sums of them."""

import numpy as np
import pytest

from segjax.data.splits import division, resolve
from segjax.data.tfds_source import Index
from segjax.errors import UserError

NAMES = {"train": ["a_1", "a_2", "b_1", "b_2", "c_1", "c_2"], "val": ["d_1", "e_1"]}
DIVISIONS = {
    "all": division("train+val"),
    "b_only": division("train+val", starts=("b_", "e_")),
    "no_b": division("train+val", starts=("b_", "e_"), others=True),
    "picked": division("train", names=("c_2", "a_1")),
}


def index(split):
    n = len(NAMES[split])
    labelled = np.array([name != "c_1" for name in NAMES[split]])
    return Index(np.array(NAMES[split]), np.zeros(n, str), np.zeros(n), np.zeros((n, 2)), labelled)


def stored(text):
    name, _, part = text.partition("[")
    rows = np.arange(len(NAMES[name]))
    return [(name, rows[: int(part[1:-1])] if part else rows)]


def names(text):
    parts = resolve(text, name="toy", stored=stored, known=("train", "val"), divisions=DIVISIONS, index=index)
    return [NAMES[split][row] for split, rows, _ in parts for row in rows]


def test_names():
    assert names("train") == NAMES["train"]
    assert names("val+train[:2]") == ["d_1", "e_1", "a_1", "a_2"]
    assert names("all") == NAMES["train"] + NAMES["val"]
    assert names("b_only") == ["b_1", "b_2", "e_1"]
    assert names("no_b + val") == ["a_1", "a_2", "c_1", "c_2", "d_1", "d_1", "e_1"]
    assert names("picked") == ["a_1", "c_2"]


def test_few_shot_subsets_are_labelled_nested_and_differ_by_seed():
    subsets = [names(f"all@{count},seed=4") for count in range(1, 8)]
    for count, subset in enumerate(subsets, start=1):
        assert len(set(subset)) == count and "c_1" not in subset
        assert set(subsets[count - 2]) <= set(subset) or count == 1
    assert names("all@3") == names("all@3,seed=0")
    assert len({tuple(names(f"all@3,seed={seed}")) for seed in range(9)}) > 3
    assert all(names(f"b_only@1,seed={seed}")[0][0] in "be" for seed in range(4))


def labels(text):
    parts = resolve(text, name="toy", stored=stored, known=("train", "val"), divisions=DIVISIONS, index=index)
    return [NAMES[split][row] for split, rows, labelled in parts for row in rows[labelled]]


def test_every_nth_label_is_kept_and_all_frames():
    assert labels("train") == ["a_1", "a_2", "b_1", "b_2", "c_2"]
    assert labels("train::1") == labels("train")
    assert names("train::2") == NAMES["train"] and labels("train::2") == ["a_2", "b_2"]
    assert labels("all::3") == ["a_2", "c_2"] and labels("all::7") == ["b_2"]
    assert labels("train[:4]::4+val") == ["b_1", "d_1", "e_1"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("train::6", "every 6th label of 5; write a number from 1 to 5"),
        ("train::0", "every 0th label of 5"),
        ("trian", "no split 'trian'. Did you mean 'train'"),
        ("picke", "no split 'picke'. Did you mean 'picked'"),
        ("all[:2]", "'all', which is no stored split; write all@N"),
        ("all@8", "takes 8 labelled images of 7"),
        ("all@0", "takes 0 labelled images"),
        ("train+", "no split ''"),
    ],
)
def test_wrong_names(text, message):
    with pytest.raises(UserError, match=message):
        names(text)
