"""Splits that folders name: every usual spelling at any depth, and refusals of what is not clear."""

from pathlib import Path

import pytest

from segjax.data.split_names import folder_splits, split_of
from segjax.errors import UserError


def found(*keys):
    return folder_splits({key: Path(f"{key}.png") for key in keys})


@pytest.mark.parametrize(
    "split, folders",
    [
        ("train", "train Train TRAIN training Training train2017 train_images images_train trainset TrainImages trn "
                  "train-masks trainannot train.images tRAIN ｔｒａｉｎ 2017_train"),
        ("validation", "val Val VAL valid validation Validation val2017 val_images validationset valannot"),
        ("test", "test Test TEST testing test2017 test_images testannot tst"),
        ("", "trains city street invalid contest trainer latest 2017 images x"),
        ("unclear", "train_val test_drive train_aachen train_extra trainval dev eval tr te va"),
    ],
)  # fmt: skip
def test_words(split, folders):
    for folder in folders.split():
        assert split_of(folder) == split, folder


@pytest.mark.parametrize(
    "folders",
    [
        ("Train", "Val", "Test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "VAL", "TEST"),
        ("train2017", "val2017", "test2017"),
        ("train_images", "val_images", "test_images"),
        ("images/train", "images/val", "images/test"),
        ("city/train", "other/val", "city/test/deep/er"),
        ("train/images", "valid/images", "test/images"),
        ("train/train_images", "val/val_images", "test/test_images"),
    ],
)
def test_usual_layouts(folders):
    keys = [f"{folder}/{name}" for folder in folders for name in "ab"]
    splits = found(*keys)
    assert splits.of == dict(zip(keys, ["train"] * 2 + ["validation"] * 2 + ["test"] * 2))
    assert splits.plain == (folders[0].split("/")[0] == "train")


def test_the_first_spellings_keep_their_builds():
    assert found("train/a", "val/b", "test/c").plain and found("training/x/a", "validation/b").plain
    assert found("train/a", "val/b").folders == ("train", "val")


@pytest.mark.parametrize(
    "keys",
    [
        ("a", "b"),
        ("berlin/1", "munich/2"),
        ("test_drive/1",),
        ("trainval/1", "trainval/2"),
        ("train_LR/a", "train_HR/a"),
    ],
)
def test_ordinary_folders(keys):
    assert found(*keys) is None


@pytest.mark.parametrize(
    "keys, message",
    [
        (("val/a", "test/b"), "val, test name splits, but none is for training"),
        (("Train/a", "other/b"), "other/b.png lies beside the split folders Train"),
        (("train/a", "b", "c"), "2 images, such as b.png, lie beside the split folders train"),
        (("train/a", "dev/b"), "dev/b.png lies beside"),
        (("train/val/a", "train/train/b"), r"two splits \(train, val\)"),
        (("train_aachen/a", "test_ulm/b"), "look like splits"),
        (("berlin/a", "test_ulm/b"), "test_ulm look like splits"),
        (("trainval/a", "dev/b"), "dev, trainval look like splits"),
        (("tr/a", "te/b"), "look like splits"),
        (("train_1", "test_1", "test_2"), r"names of the images look like splits \(train_1, test_1\)"),
        (("d/1_train", "d/1_val"), "names of the images look like splits"),
    ],
)
def test_what_looks_like_splits_is_refused_with_the_remedy(keys, message):
    with pytest.raises(UserError, match=message) as error:
        found(*keys)
    assert "lists" in str(error.value) and "splits='random'" in str(error.value)
