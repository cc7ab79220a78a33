"""A training whose dataset has no validation split stops before the network is set up."""

import types

import numpy as np
import pytest

from segjax.data.image_files import encode_png
from segjax.errors import UserError
from segjax.stages.dataset import read_dataset
from segjax.stages.train import open_held_out


@pytest.fixture
def settings(tmp_path):
    """The section of own images with the folders Train and Test."""
    for key in ("Train/a", "Train/b", "Test/c"):
        for kind in ("images", "masks"):
            path = tmp_path / kind / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(np.zeros((4, 4), np.uint8)))
    options = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks"), "label_map": "camvid"}
    names = {"train": "train", "validation": "validation", "test": "validation"}
    return {"name": "segmentation_folder", "options": options, **names, "data_dir": str(tmp_path / "data")}


def options(evaluate="1 epoch"):
    return types.SimpleNamespace(plan=types.SimpleNamespace(evaluate=evaluate))


def test_the_error_names_the_splits_and_the_remedy(settings):
    with pytest.raises(UserError, match="no split 'validation'.*test, train.*--config.dataset.validation=test"):
        open_held_out(options(), read_dataset(settings, "dataset"))


def test_another_split_or_none(settings):
    other = read_dataset({**settings, "validation": "test"}, "dataset")
    assert open_held_out(options(), other).names == ["Test/c"]
    assert open_held_out(options(), read_dataset({**settings, "validation": ""}, "dataset")) is None
    assert open_held_out(options(evaluate=None), read_dataset(settings, "dataset")) is None
