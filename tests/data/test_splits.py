"""Splits by name: divisions, slices, few-shot subsets and sums of them."""

import numpy as np
import pytest

from segjax.data.splits import division, resolve
from segjax.data.tfds_index import Index
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


PIXELS = {  # of the classes sky, road and bus, beside the names; c_1 has no label
    "train": [[99, 16, 0], [99, 15, 0], [99, 99, 99], [0, 99, 0], [9, 9, 9], [20, 20, 0]],
    "val": [[99, 0, 0], [0, 50, 16]],
}


def parts(text):
    return resolve(
        text,
        name="toy",
        stored=stored,
        known=("train", "val"),
        divisions=DIVISIONS,
        index=index,
        pixels=lambda split: np.array(PIXELS[split]),
        class_names=("sky", "road", "bus"),
    )


def names(text):
    return [NAMES[split][row] for split, rows, _ in parts(text) for row in rows]


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


def test_shares_are_as_many_as_their_nearest_number():
    assert names("all@50%") == names("all@4") and names("all@20%,seed=3") == names("all@1,seed=3")
    assert names("all@100%") == names("all@7") and names("all@0.1%") == names("all@1")
    assert names("train@30%,seed=1") == names("train@2,seed=1")  # 1.5 of 5


def test_shots_are_images_of_each_class():
    """Images of sky: a_1 a_2 b_1 c_2 d_1, road: a_1 b_1 b_2 c_2 e_1, bus: b_1 e_1; a_2 has 15 pixels of road."""
    for seed in range(20):
        one, two = names(f"all@1shot,seed={seed}"), names(f"all@2shot,seed={seed}")
        assert len(one) == len(set(one)) == 3 and set(one) & {"b_1", "e_1"} and set(one) & {"b_2", "a_1", "c_2", "e_1"}
        # both images of bus are its own, so that road and sky have none of these
        assert len(two) == len(set(two)) == 6 and set(two) >= {*one, "b_1", "e_1"}
        assert len(set(two) & {"a_1", "b_2", "c_2"}) >= 2
    assert len({tuple(names(f"all@1shot,seed={seed}")) for seed in range(20)}) > 5
    assert names("all@1shot") == names("all@1shot,seed=0")
    part = set(names("train[:4]@1shot"))
    assert len(part) == 3 and "b_1" in part and part & {"a_1", "b_2"} and part & {"a_1", "a_2"}
    assert names("no_b@1+all@2shot,seed=5+val") == names("no_b@1") + names("all@2shot,seed=5") + NAMES["val"]
    assert set(labels("all@2shot::3")) < set(names("all@2shot::3")) == set(names("all@2shot"))


def labels(text):
    return [NAMES[split][row] for split, rows, labelled in parts(text) for row in rows[labelled]]


def test_every_nth_label_is_kept_and_all_frames():
    assert labels("train") == ["a_1", "a_2", "b_1", "b_2", "c_2"]
    assert labels("train::1") == labels("train")
    assert names("train::2") == NAMES["train"] and labels("train::2") == ["a_2", "b_2"]
    assert labels("all::3") == ["a_2", "c_2"] and labels("all::7") == ["b_2"]
    assert labels("train[:4]::4+val") == ["b_1", "d_1", "e_1"]


def test_which_label_of_every_n_is_kept():
    assert labels("train::2,first=0") == ["a_1", "b_1", "c_2"] and labels("train::2,first=1") == labels("train::2")
    eighths = [labels(f"all::4,first={first}") for first in range(4)]
    assert sorted(name for found in eighths for name in found) == sorted(labels("all"))
    assert all(names(f"all::4,first={first}") == names("all") for first in range(4))
    for step in range(1, 8):
        assert labels(f"all::{step}") == labels(f"all::{step},first={step // 2}")
    assert labels("train[:4]::4,first=3+val@1,seed=2+b_only") == ["b_2", *labels("val@1,seed=2"), *labels("b_only")]


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
        ("train::2,first=2", "first=2 must be from 0 to 1, a number within each 2"),
        ("train::2,frist=0", "unknown option 'frist'. Did you mean 'first'"),
        ("train::2,seed=0", "unknown option 'seed'. Choose one of: first"),
        ("train::two", "whole number in place of 'two'"),
        ("train::2,first=", "whole number in place of ''"),
        ("all@2,sed=1", "unknown option 'sed'. Did you mean 'seed'"),
        ("all@2,seed=x", "whole number in place of 'x'"),
        ("all@2shots", "unknown unit 'shots'. Did you mean 'shot'"),
        ("all@2.5shot", "whole number in place of '2.5'"),
        ("all@2.5", "whole number in place of '2.5'"),
        ("all@ten", "unknown unit 'ten'. Choose one of: %, shot"),
        ("all@", "whole number in place of ''"),
        ("all@%", "a share in place of ''"),
        ("all@0%", "takes 0% of 7 labelled images; write a share up to 100%"),
        ("all@101%", "takes 101% of 7"),
        ("all@0shot", "takes no image of any class; write 1 or more"),
        (
            "all@3shot",
            "'all@3shot' needs 3 images of 'bus', but the labelled images with 16 pixels or more of it are only 2; "
            "write 2 at most, or take images of any class with @N$",
        ),
        (
            "val@1shot",
            "needs 1 image of each of 'road', 'bus', but .* of any of them are only 1; ignore one of them in a",
        ),
        ("no_b@1shot", r"needs 1 image of 'bus', but .* are only 0; ignore it in a label_map \(train_id 255\), or"),
        ("vla@1shot", "no split 'vla'. Did you mean 'val'"),
    ],
)
def test_wrong_names(text, message):
    with pytest.raises(UserError, match=message):
        names(text)
