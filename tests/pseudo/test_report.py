"""Counts of pseudo labels add up over shards and pools, and come back from their plain form."""

import numpy as np
import pytest

from segjax.pseudo.labels import Group, Labelled
from segjax.pseudo.pools import PoolImage
from segjax.pseudo.report import Counts, confidence_bins, count_group, describe, listed, merge, summarise, total

NAMES = ("road", "car", "sky")


def labelled(seed, *, pool=0, truth=True):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, (6, 8)).astype(np.uint8)
    confidence = rng.integers(0, 256, (6, 8)).astype(np.uint8)
    label = np.where(confidence < 100, 255, ids).astype(np.uint8)
    known = rng.choice(np.array([0, 1, 2, 255], np.uint8), (6, 8)) if truth else None
    return Labelled(
        pool, PoolImage(0, f"i{seed}", "", 0, np.zeros((6, 8, 3), np.uint8), truth=known), ids, confidence, label
    )


def note(*images, problems=()):
    records = [{"image": b"123", "label": b"12345"} for _ in images]
    return count_group(Group(images, problems), records, classes=3)


def test_shards_add_up():
    images = [labelled(seed, pool=seed % 2, truth=seed % 2 == 0) for seed in range(6)]
    whole, _ = merge([note(*images)], pools=3, classes=3)
    parts, problems = merge(
        [note(images[0]), note(*images[1:4]), note(*images[4:], problems=[(1, "x is damaged")]), note()],
        pools=3,
        classes=3,
    )
    assert problems == ["x is damaged"] and parts[1].skipped == 1
    parts[1].skipped = 0
    for one, other in zip(whole, parts):
        assert one.plain() == other.plain()
    assert [part.images for part in parts] == [3, 3, 0] and parts[1].scored == 0
    assert "matrix" not in parts[1].plain() and Counts.from_plain(parts[0].plain()).plain() == parts[0].plain()
    assert total(parts, classes=3).bytes == {"image": 18, "label": 30}


def test_numbers_of_two_pixels():
    """Computed by hand: road at 0.4 right and below the threshold, car at 1 wrong."""
    image = PoolImage(0, "a", "", 0, np.zeros((1, 2, 3), np.uint8), truth=np.array([[0, 2]], np.uint8))
    ids, confidence = np.array([[0, 1]], np.uint8), np.array([[102, 255]], np.uint8)
    found = note(Labelled(0, image, ids, confidence, np.array([[255, 1]], np.uint8)))
    summary = summarise(merge([found], pools=1, classes=3)[0][0], NAMES)
    assert summary["ignored"] == 0.5 and summary["classes"] == {"road": 0, "car": 0.5, "sky": 0}
    assert summary["confidence"]["all"] == [0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.5]
    assert set(summary["confidence"]["classes"]) == {"road", "car"}
    assert summary["truth"]["accuracy_by_confidence"] == [None] * 4 + [1] + [None] * 4 + [0]
    assert summary["truth"]["iou"] == {"road": None, "car": 0, "sky": 0} and summary["truth"]["miou"] == 0
    lines = describe(summary, name="rest")
    assert lines[0] == "rest: 1 images; 50.0 % of the pixels ignored; mean confidence 0.700"
    assert lines[-1] == "rest: right by confidence: 0.4+ 100.0 %, 0.9+ 0.0 %"


def test_a_pool_of_which_nothing_is_labelled():
    summary = summarise(Counts.of(3), NAMES)
    assert summary["images"] == 0 and summary["truth"] is None and describe(summary)


@pytest.mark.parametrize("count", [0, 20, 23])
def test_problems_are_listed_up_to_twenty(count):
    found = listed([f"p{i}" for i in range(count)])
    assert len(found) == min(count, 21) and (found[-1:] == ["and 3 more"]) == (count == 23)


def test_tenths():
    levels = np.arange(256, dtype=np.uint8)
    assert confidence_bins(levels).tolist() == [min(int(10 * int(level) / 255 + 1e-9), 9) for level in levels]
