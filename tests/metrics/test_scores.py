import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segjax.data.classes import CLASSES
from segjax.metrics import category_matrix, confusion_matrix, iou_scores

matrices = arrays(np.int64, (5, 5), elements=st.integers(0, 50))

# category of each of Cityscapes' 19 classes, by the data set's definition: flat, construction, object, nature, sky,
# human, vehicle
CATEGORIES = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)


def test_a_matrix_by_hand():
    scores = iou_scores(np.array([[6, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_allclose(scores["iou"], [6 / 9, 1 / 4, np.nan, np.nan])
    np.testing.assert_allclose(scores["class_accuracy"], [6 / 8, 1 / 2, np.nan, np.nan])
    assert scores["miou"] == pytest.approx((6 / 9 + 1 / 4) / 2)
    assert scores["mean_accuracy"] == pytest.approx(5 / 8)
    assert scores["pixel_accuracy"] == pytest.approx(7 / 10)
    assert scores["frequency_weighted_iou"] == pytest.approx(0.8 * 6 / 9 + 0.2 / 4)


def test_a_class_that_is_only_predicted_scores_zero():
    scores = iou_scores(np.array([[3, 1], [0, 0]]))
    np.testing.assert_allclose(scores["iou"], [3 / 4, 0])
    np.testing.assert_allclose(scores["class_accuracy"], [3 / 4, np.nan])
    assert scores["miou"] == pytest.approx(3 / 8) and scores["mean_accuracy"] == pytest.approx(3 / 4)


def test_nothing_counted_is_nan_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = iou_scores(np.zeros((3, 3), np.int64))
    assert all(np.isnan(value).all() for value in scores.values())


@settings(max_examples=50)
@given(matrix=matrices, seed=st.integers(0, 100))
def test_the_order_of_classes_does_not_matter(matrix, seed):
    order = np.random.default_rng(seed).permutation(5)
    a, b = iou_scores(matrix), iou_scores(matrix[order][:, order])
    np.testing.assert_allclose(a["iou"][order], b["iou"])
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        np.testing.assert_allclose(a[name], b[name])


@settings(max_examples=50)
@given(matrix=matrices)
def test_scores_are_shares(matrix):
    for value in iou_scores(matrix).values():
        value = np.asarray(value)[~np.isnan(value)]
        assert ((value >= 0) & (value <= 1 + 1e-12)).all()


def test_large_counts_keep_their_digits():
    n = 2**53 - 1
    assert iou_scores(np.diag([n, n]))["miou"] == 1


def test_confusions_within_a_category_are_right():
    matrix = np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(category_matrix(matrix, (0, 1, 0)), [[0 + 2 + 6 + 8, 1 + 7], [3 + 5, 4]])


def train_ids(raw):
    """Raw Cityscapes ids -> 0..18; what is no class becomes 19."""
    table = np.full(256, 19)
    for raw_id, train_id in CLASSES["cityscapes"].ids.items():
        if 0 <= raw_id < 255 and train_id != 255:
            table[raw_id] = train_id
    return table[raw].astype(np.uint8)


def matrix_of(truth, prediction):
    """(20, 20): class 19 takes predictions that are no class, which the official scores count as wrong."""
    return np.asarray(confusion_matrix(train_ids(prediction), train_ids(truth), 20, ignore_label=19))


def assert_official(matrix, class_scores, category_scores, mean, category_mean):
    scores = iou_scores(matrix)["iou"][:19]
    np.testing.assert_allclose(scores, np.array(class_scores, float), atol=1e-9)
    np.testing.assert_allclose(np.nanmean(scores), mean, atol=1e-9)
    scores = iou_scores(category_matrix(matrix, (*CATEGORIES, 7)))["iou"][:7]
    np.testing.assert_allclose(scores, np.array(category_scores, float), atol=1e-9)
    np.testing.assert_allclose(np.nanmean(scores), category_mean, atol=1e-9)


def test_cityscapes_scores_are_the_official_ones(parity):
    folder = parity / "cityscapes_eval"
    categories = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    cases = json.loads((folder / "spec.json").read_text())["cases"]
    assert len(cases) == 3
    for case in cases:
        data, scores = np.load(folder / case["file"]), case["scores"]
        assert_official(
            matrix_of(data["gt"], data["pred"]),
            [scores["classScores"][name] for name in CLASSES["cityscapes"].names],
            [scores["categoryScores"][name] for name in categories],
            scores["averageScoreClasses"],
            scores["averageScoreCategories"],
        )


def test_cityscapes_scores_are_those_of_its_own_program():
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    rng = np.random.default_rng(0)
    truth, prediction = rng.choice([0, 7, 8, 11, 17, 21, 23, 24, 25, 26, 33], (2, 3, 40, 40))
    raw = np.zeros((34, 34), np.ulonglong)
    np.add.at(raw, (truth.ravel(), prediction.ravel()), 1)
    official.args.evalLabels = list(range(34))
    labels = {label.trainId: label for label in official.labels if 0 <= label.trainId < 19}
    classes = [official.getIouScoreForLabel(labels[i].id, raw, official.args) for i in range(19)]
    names = list(dict.fromkeys(labels[i].category for i in range(19)))
    categories = [official.getIouScoreForCategory(name, raw, official.args) for name in names]
    assert_official(matrix_of(truth, prediction), classes, categories, np.nanmean(classes), np.nanmean(categories))
