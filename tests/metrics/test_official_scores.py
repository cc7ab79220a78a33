"""The rules of the servers: against the installed official program, and by hand."""

import json

import numpy as np
import pytest

from data_builders.kitti.kitti_dataset_builder import to_thousands
from segjax.data.classes import CLASSES
from segjax.data.image_files import encode_png, read_mask
from segjax.errors import UserError
from segjax.metrics import RULES, empty_tally, find_rule, official_scores, tally
from segjax.metrics.instances import CITYSCAPES_CATEGORIES
from segjax.submission.servers import SERVERS
from tests.official import official_cityscapes

NAMES = CLASSES["cityscapes"].names
IDS = CLASSES["cityscapes"].ids


def train_ids(raw):
    table = np.full(256, 255, np.uint8)
    for label in CLASSES["cityscapes"].labels:
        table[label.id] = label.train_id
    return table[raw]


def ours(truth, prediction, instances):
    rule, server = RULES["cityscapes"], SERVERS["cityscapes"]
    total = empty_tally(rule)
    for t, p, i in zip(truth, prediction, instances):
        total += tally(rule, server.labels[p], train_ids(t), instances=i, train_id_of=IDS)
    return official_scores(rule, total)


def assert_equal(scores, official):
    for key, theirs in (("iou", "classScores"), ("iiou", "classInstScores")):
        want = np.array([official[theirs][name] for name in NAMES], float)
        np.testing.assert_allclose(scores[key], want, atol=1e-9, err_msg=key)
    for key, theirs in (("category_iou", "categoryScores"), ("category_iiou", "categoryInstScores")):
        want = np.array([official[theirs][name] for name in CITYSCAPES_CATEGORIES], float)
        np.testing.assert_allclose(scores[key], want, atol=1e-9, err_msg=key)
    for key, theirs in (
        ("miou", "averageScoreClasses"),
        ("mean_iiou", "averageScoreInstClasses"),
        ("mean_category_iou", "averageScoreCategories"),
        ("mean_category_iiou", "averageScoreInstCategories"),
    ):
        assert scores[key] == pytest.approx(official[theirs], abs=1e-9), key


def test_the_stored_official_figures(parity):
    folder = parity / "cityscapes_eval"
    for case in json.loads((folder / "spec.json").read_text())["cases"]:
        data = np.load(folder / case["file"])
        scores = {key: {k: np.nan if v is None else v for k, v in value.items()} if isinstance(value, dict) else value
                  for key, value in case["scores"].items()}  # fmt: skip
        assert_equal(ours(data["gt"], data["pred"], data["instance"]), scores)


def write_pairs(folder, truth, prediction, instances):
    """gtFine files and predictions as the official program looks for them; returns both lists."""
    pairs = []
    for number, maps in enumerate(zip(truth, prediction, instances)):
        stem = f"town_000000_{number:06d}"
        for name, array in zip(("gtFine_labelIds", "pred", "gtFine_instanceIds"), maps):
            (folder / f"{stem}_{name}.png").write_bytes(encode_png(array))
        pairs.append((folder / f"{stem}_pred.png", folder / f"{stem}_gtFine_labelIds.png"))
    return zip(*pairs)


@pytest.mark.parametrize("seed", [0, 1])
def test_random_maps_by_the_installed_program(tmp_path, seed):
    """All ids 0..33 in truth and prediction, some classes nowhere, instances of 8x8 and single pixels."""
    rng = np.random.default_rng(seed)
    values = rng.permutation(34)[:28].astype(np.uint8)
    truth = np.kron(values[rng.integers(0, 28, (3, 6, 8))], np.ones((1, 8, 8), np.uint8))
    prediction = np.where(rng.random(truth.shape) < 0.5, truth, values[rng.integers(0, 24, truth.shape)])
    number = np.kron(rng.integers(0, 4, (3, 6, 8)), np.ones((1, 8, 8), np.int64))
    instances = np.where((truth >= 24) & (rng.random(truth.shape) < 0.9), truth * 1000.0 + number, truth).astype(
        np.uint16
    )
    official = official_cityscapes(*write_pairs(tmp_path, truth, prediction, instances))
    assert_equal(ours(truth, prediction, instances), official)


def test_real_maps_by_the_installed_program(tmp_path, kitti5):
    """KITTI's labels are Cityscapes' in form: real shapes of instances, predictions moved by some pixels."""
    maps = [[], [], []]
    for path in sorted((kitti5 / "semantic").glob("*.png"))[:2]:
        truth, published = read_mask(path), read_mask(kitti5 / "instance" / path.name)
        guess = np.roll(truth, (3, 7), (0, 1))
        for found, array in zip(
            maps, (truth, np.where(guess > 33, 0, guess), to_thousands(published).astype(np.uint16))
        ):
            found.append(array)
    assert len(maps[0]) == 2 and max(i.max() for i in maps[2]) > 24000
    scores = ours(*maps)
    assert 0.5 < scores["miou"] < 1 and 0.3 < scores["mean_iiou"] < 1
    assert_equal(scores, official_cityscapes(*write_pairs(tmp_path, *maps)))


def test_a_mean_over_the_truth_leaves_out_what_is_only_predicted():
    truth, guess = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    guess[0] = 5
    guess[1] = 255  # no class: missed, and wrong for nobody else
    for name, want in (("cityscapes", (0.5 + 0.0) / 2), ("bdd100k", 0.5), ("voc2012", (0.5 + 0.0) / 2)):
        scores = official_scores(RULES[name], tally(RULES[name], guess, truth))
        assert scores["miou"] == pytest.approx(want), name
        assert scores["pixel_accuracy"] == pytest.approx(0.5)
    assert "iiou" not in scores and "category_iou" not in scores


def test_voc_counts_the_background_and_not_the_outlines():
    """By hand: 2 of 6 background pixels are taken for a cat, 1 of 3 cats is missed, the rest is outline."""
    truth = np.array([[0, 0, 0, 0, 0, 0, 8, 8, 8, 255, 255]], np.uint8)
    guess = np.array([[0, 0, 0, 0, 8, 8, 8, 8, 0, 8, 3]], np.uint8)
    scores = official_scores(RULES["voc2012"], tally(RULES["voc2012"], guess, truth))
    assert scores["iou"][0] == pytest.approx(4 / 7) and scores["iou"][8] == pytest.approx(2 / 5)
    assert scores["miou"] == pytest.approx((4 / 7 + 2 / 5) / 2) and np.isnan(scores["iou"][3])


@pytest.mark.parametrize("name", RULES)
def test_iou_by_its_definition(name):
    """Intersection over union of sets of pixels; 255 is void in the truth and no class in the prediction."""
    rule, rng = RULES[name], np.random.default_rng(1)
    k = rule.num_classes
    truth = rng.choice([*range(k - 1), 255], (3, 9, 11)).astype(np.uint8)
    guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice([*range(k), 255], truth.shape)).astype(np.uint8)
    guess[0, :, 0], truth[0, :, 0] = k - 1, 0  # the last class is predicted and nowhere true
    scores = official_scores(rule, sum((tally(rule, g, t) for g, t in zip(guess, truth)), empty_tally(rule)))
    valid = truth != 255
    both = np.array([((truth == c) & (guess == c)).sum() for c in range(k)])
    either = np.array([(((truth == c) | (guess == c)) & valid).sum() for c in range(k)])
    want = np.where([(truth == c).any() or not rule.truth_only for c in range(k)], both / either, np.nan)
    np.testing.assert_allclose(scores["iou"], want)
    assert scores["miou"] == pytest.approx(np.nanmean(want)) and np.isnan(want).sum() == rule.truth_only
    assert scores["pixel_accuracy"] == pytest.approx((truth == guess)[valid].mean())


def test_wrong_sizes_and_names():
    with pytest.raises(ValueError, match="the prediction is"):
        tally(RULES["kitti"], np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(UserError, match="Did you mean 'kitti'"):
        find_rule("kiti")
