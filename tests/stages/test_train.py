"""The train stage refuses data from which nothing can be learned, before any long work."""

from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data import FolderSource, LabelMap
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from segjax.stages import train


def test_one_class_is_refused_before_plans_and_networks(tmp_path):
    for folder, shape in (("images", (8, 9, 3)), ("masks", (8, 9))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(encode_png(np.zeros(shape, np.uint8)))
    one = LabelMap.identity(("road",), np.zeros((1, 3), np.uint8))
    source = FolderSource(tmp_path / "images", tmp_path / "masks", one)
    dataset = SimpleNamespace(open=lambda split: source)
    with pytest.raises(UserError, match="one class only"):
        train.open_training(SimpleNamespace(dataset=dataset), SimpleNamespace(), None)
