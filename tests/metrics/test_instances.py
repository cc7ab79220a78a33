import json

import numpy as np
import pytest

from segjax.data.classes import CLASSES
from segjax.metrics import confusion_matrix, instance_scores, instance_sums
from segjax.metrics.instances import CITYSCAPES_CATEGORIES, CITYSCAPES_CATEGORY_OF, CITYSCAPES_INSTANCE_SIZES

TRAIN_IDS = CLASSES["cityscapes"].ids
CATEGORIES = (*CITYSCAPES_CATEGORY_OF, 6, 6)  # caravan and trailer, which the official program counts as vehicles
OPTIONS = dict(train_id_of=TRAIN_IDS, sizes=CITYSCAPES_INSTANCE_SIZES, categories=CATEGORIES)


def train_ids(raw, *, extra=False):
    table = np.full(256, 255)
    for raw_id, train_id in TRAIN_IDS.items():
        table[raw_id] = train_id
    if extra:
        table[29:31] = 19, 20
    return table[raw].astype(np.uint8)


def scores_of(truth, prediction, instances):
    predicted = train_ids(prediction, extra=True)
    matrix = np.asarray(confusion_matrix(predicted, train_ids(truth), 21))
    sums = [instance_sums(p, i, **OPTIONS) for p, i in zip(predicted, instances)]
    scores = instance_scores(matrix, sum(sums[1:], sums[0]), sizes=CITYSCAPES_INSTANCE_SIZES, categories=CATEGORIES)
    return {**scores, "iiou": scores["iiou"][:19]}


def test_scores_are_the_official_ones(parity):
    folder = parity / "cityscapes_eval"
    for case in json.loads((folder / "spec.json").read_text())["cases"]:
        data, official = np.load(folder / case["file"]), case["scores"]
        scores = scores_of(data["gt"], data["pred"], data["instance"])
        names = CLASSES["cityscapes"].names
        expected = np.array([official["classInstScores"][name] for name in names], float)
        np.testing.assert_allclose(scores["iiou"], expected, atol=1e-9)
        expected = np.array([official["categoryInstScores"][name] for name in CITYSCAPES_CATEGORIES], float)
        np.testing.assert_allclose(scores["category_iiou"], expected, atol=1e-9)
        assert np.nanmean(scores["iiou"]) == pytest.approx(official["averageScoreInstClasses"], abs=1e-9)
        assert np.nanmean(scores["category_iiou"]) == pytest.approx(official["averageScoreInstCategories"], abs=1e-9)


def test_a_small_and_a_large_instance_weigh_the_same():
    instances = np.full((10, 20), 26001)
    instances[:2, :2] = 26002  # 4 pixels beside 196
    truth = np.full((1, 10, 20), 26)
    prediction = truth.copy()
    prediction[0][instances == 26002] = 33  # the small car is all wrong, taken for a bicycle: same category
    scores = scores_of(truth, prediction, instances[None])
    assert scores["iiou"][13] == pytest.approx(0.5)
    assert scores["category_iiou"][6] == pytest.approx(1.0)
    assert scores["iiou"][18] == 0  # a bicycle was predicted and none is there
    assert np.isnan(scores["iiou"][[0, 11]]).all() and np.isnan(scores["category_iiou"][0])


def test_groups_and_ignored_labels_are_no_instances():
    instances = np.array([[26, 26, 29001, 24001]])  # a group of cars, a caravan (ignored), a person
    sums = instance_sums(np.array([[13, 13, 13, 11]]), instances, **OPTIONS)
    assert np.flatnonzero(sums.total).tolist() == [11]


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="the prediction is"):
        instance_sums(np.zeros((2, 3), int), np.zeros((3, 2), int), **OPTIONS)
