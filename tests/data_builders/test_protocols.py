"""The splits that papers report on: their published sizes, from the published names, under the names a config gives."""

import numpy as np
import pytest

from configs import common
from data_builders.camvid.full import ABOUT as CAMVID
from data_builders.cityscapes.cityscapes_dataset_builder import ABOUT as CITYSCAPES
from data_builders.kitti.kitti_dataset_builder import ABOUT as KITTI
from segjax.data.splits import resolve, with_frames
from segjax.data.tfds_index import Index

CITIES = {
    "train": dict(
        aachen=174, bochum=96, bremen=316, cologne=154, darmstadt=85, dusseldorf=221, erfurt=109, hamburg=248,
        hanover=196, jena=119, krefeld=99, monchengladbach=94, strasbourg=365, stuttgart=196, tubingen=144, ulm=95,
        weimar=142, zurich=122,
    ),
    "validation": dict(frankfurt=267, lindau=59, munster=174),
}  # fmt: skip


def index_of(names):
    count = len(names)
    return Index(np.array(names), np.array([""] * count), np.arange(count), np.ones((count, 2)), np.ones(count, bool))


PUBLISHED = {
    "cityscapes": (
        CITYSCAPES,
        {
            split: index_of([f"{city}_000000_{i:06d}" for city, count in cities.items() for i in range(count)])
            for split, cities in CITIES.items()
        },
    ),
    "kitti": (KITTI, {"train": index_of([f"{i:06d}_10" for i in range(200)])}),
    "camvid": (CAMVID, {split: index_of([f"{split}_{i}" for i in range(n)]) for split, n in CAMVID.images.items()}),
}


def records(name, text):
    about, indices = PUBLISHED[name]
    found = resolve(
        text, name=name, stored=lambda split: [(split, np.arange(len(indices[split].names)))], known=tuple(indices),
        divisions=about.divisions, index=indices.__getitem__, pixels={}.__getitem__, class_names=(),
    )  # fmt: skip
    return [str(indices[split].names[row]) for split, rows, *_ in found for row in rows]


@pytest.mark.parametrize(
    "name, train, validation, sizes",
    [
        ("cityscapes", "cv0_train", "cv0_validation", (2975, 500)),
        ("cityscapes", "cv1_train", "cv1_validation", (3060, 415)),
        ("cityscapes", "cv2_train", "cv2_validation", (2820, 655)),
        *(("kitti", f"cv{i}_train", f"cv{i}_validation", (179, 21)) for i in range(3)),
        *(("kitti", f"fold{i}_train", f"fold{i}_validation", (180, 20)) for i in range(10)),
    ],
)
def test_folds_have_their_published_sizes_and_share_nothing(name, train, validation, sizes):
    first, second = records(name, train), records(name, validation)
    assert (len(first), len(second)) == sizes
    assert not set(first) & set(second)
    assert len(set(first) | set(second)) == sum(len(index.names) for index in PUBLISHED[name][1].values())


def test_train_and_validation_together():
    assert len(records("cityscapes", "trainval")) == 3475
    assert len(records("camvid", "trainval")) == 468
    assert records("cityscapes", "cv0_train") == records("cityscapes", "train")


def test_the_submission_trains_on_the_split_and_the_propagated_labels_of_the_release(root):
    config = common.load(root / "configs" / "vplr.py").get_config("cityscapes,submission,data=DIR")
    train, held_out = (records("cityscapes", config.dataset[name]) for name in ("train", "validation"))
    assert (len(train), len(held_out)) == (2820, 655) and config.dataset.test == "cv2_validation"
    carried = records("cityscapes", config.propagate.split)
    assert set(carried) == set(train) & set(records("cityscapes", "train"))
    assert len(train) + 2 * len(carried) == 7460, "images of an epoch, as in the release"
    assert with_frames(config.propagate.split, CITYSCAPES.divisions) == "cv2_of_train_sequence"
    assert CITYSCAPES.divisions["cv2_of_train_sequence"]["of"] == "train_sequence"


@pytest.mark.parametrize("of", ["train", "cv2_train", "trainval"])
def test_few_shot_subsets_are_nested_and_repeatable(of):
    small, large = records("cityscapes", f"{of}@50,seed=1"), records("cityscapes", f"{of}@200,seed=1")
    assert len(small) == 50 and len(large) == 200 and set(small) < set(large) <= set(records("cityscapes", of))
    assert records("cityscapes", f"{of}@50,seed=1") == small != records("cityscapes", f"{of}@50,seed=2")


def test_a_config_reaches_them(root):
    config = common.load(root / "configs" / "vplr.py").get_config("cityscapes,data=DIR")
    config.lock()
    config.update_from_flattened_dict({"dataset.train": "cv2_train@100,seed=3", "dataset.validation": "cv2_validation"})
    assert len(records("cityscapes", config.dataset.train)) == 100
    kitti = common.load(root / "configs" / "vplr.py").get_config("kitti,data=DIR").dataset
    assert len(records("kitti", kitti.train)) == 179 and len(records("kitti", kitti.validation)) == 21
