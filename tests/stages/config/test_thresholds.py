"""Thresholds: one for all classes, or by name."""

import pytest

from segjax.errors import UserError
from segjax.stages.config.thresholds import check_threshold, class_thresholds

NAMES = ("road", "car", "sky")


def test_a_number_is_for_all_and_a_name_for_its_class():
    assert class_thresholds(0.5, NAMES, where="x").tolist() == [0.5] * 3
    assert class_thresholds({"sky": 0.25, "road": 1}, NAMES, where="x").tolist() == [1, 0, 0.25]
    with pytest.raises(UserError, match="^--threshold names 'carr', which is no class. Did you mean 'car'"):
        class_thresholds({"carr": 0.5}, NAMES, where="--threshold")


@pytest.mark.parametrize("wrong", [-0.1, 1.1, True, "0.5", None, float("nan"), {"car": 2}])
def test_what_is_no_probability(wrong):
    with pytest.raises(UserError, match="config key a.threshold.*must be a probability from 0 to 1"):
        check_threshold(wrong, where="config key a.threshold")


def test_probabilities_pass():
    for good in (0, 1, 0.5, {}, {"car": 0.5}):
        check_threshold(good, where="x")
