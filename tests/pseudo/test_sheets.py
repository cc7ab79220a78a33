"""Sheets of pseudo labels: a column for the truth if anybody knows it, and hatches on ignored pixels."""

import numpy as np

from segjax.pseudo.labels import Labelled
from segjax.pseudo.pools import PoolImage
from segjax.pseudo.sheets import pseudo_sheet

PALETTE = np.array([(200, 0, 0), (0, 0, 200)], np.uint8)


def one(*, truth, ignored=False, level=255):
    image = np.full((40, 60, 3), 128, np.uint8)
    label = np.full((40, 60), 255 if ignored else 0, np.uint8)
    known = np.ones((40, 60), np.uint8) if truth else None
    confidence = np.full((40, 60), level, np.uint8)
    return Labelled(0, PoolImage(0, "a", "", 0, image, truth=known), np.zeros_like(label), confidence, label)


def test_columns():
    without = pseudo_sheet([one(truth=False)], ("a", "b"), PALETTE, tile_width=60)
    both = pseudo_sheet([one(truth=False), one(truth=True)], ("a", "b"), PALETTE, tile_width=60)
    assert both.shape[1] - without.shape[1] == 60 + 8 and both.shape[0] > without.shape[0]


def test_label_ignored_pixels_and_confidence_are_seen():
    plain = pseudo_sheet([one(truth=False)], ("a", "b"), PALETTE, tile_width=60)
    red = (plain[..., 0] > 150) & (plain[..., 1] < 80)
    assert red.sum() > 2000
    hidden = pseudo_sheet([one(truth=False, ignored=True)], ("a", "b"), PALETTE, tile_width=60)
    assert ((hidden[..., 0] > 150) & (hidden[..., 1] < 80)).sum() < 400  # only the legend
    unsure = pseudo_sheet([one(truth=False, level=0)], ("a", "b"), PALETTE, tile_width=60)
    assert plain.mean() > unsure.mean() + 5
