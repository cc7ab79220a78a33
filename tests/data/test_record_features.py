import numpy as np
import pytest

from segjax.data import ClassTable, Label, LabelMap
from segjax.data.record_features import record_features


@pytest.mark.parametrize("largest, dtype", [(255, np.uint8), (256, np.uint16)])
def test_large_ids_are_stored_with_16_bits(largest, dtype):
    table = ClassTable((Label(0, "a", 0, (0, 0, 0)), Label(largest, "b", 1, (0, 0, 0))))
    features = record_features(LabelMap(table))
    names = ["image", "label", "name", "sequence", "frame", "height", "width", "labelled"]
    assert list(features) == names and features["label"].np_dtype == dtype
