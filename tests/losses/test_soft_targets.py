import math

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.losses import cross_entropy, soft_target_cross_entropy, soft_targets
from tests import loss_oracles as oracle

K = 5


def spans(size, cells, cell):
    """(first pixel, end) of the cells along an axis: whole ones if they cover it, else torch's adaptive bins."""
    if cell and cell * cells >= size:
        return [(i * cell, (i + 1) * cell) for i in range(cells)]
    return [(math.floor(i * size / cells), math.ceil((i + 1) * size / cells)) for i in range(cells)]


def by_hand(labels, size, cell=0):
    """(targets, valid) cell by cell, in float64."""
    targets, valid = np.zeros((len(labels), *size, K)), np.zeros((len(labels), *size), bool)
    rows, columns = (spans(n, cells, cell) for n, cells in zip(labels.shape[1:], size))
    for i, r, c in np.ndindex(valid.shape):
        (top, bottom), (left, right) = rows[r], columns[c]
        inside = labels[i, top:bottom, left:right].ravel()
        known = inside[inside < K]
        area = (bottom - top) * (right - left)  # pixels beyond the image are ignored ones
        valid[i, r, c] = (area - len(known)) / area < 0.5
        targets[i, r, c] = np.bincount(known, minlength=K) / max(1, len(known))
    return targets, valid


EVEN = [((4, 5), 0), ((2, 2), 0), ((8, 10), 0), ((1, 1), 0), ((3, 4), 3), ((1, 1), 16)]
UNEVEN = [((3, 3), 0), ((7, 9), 0), ((2, 2), 3), ((1, 4), 3), ((9, 12), 0)]


@pytest.mark.parametrize("size, cell", EVEN + UNEVEN)
def test_shares_of_the_cells(size, cell):
    labels = oracle.blocks(0, (3, 8, 10), void=0.4)
    targets, valid = soft_targets(labels, K, size, cell=cell)
    wanted, wanted_valid = by_hand(labels, size, cell)
    np.testing.assert_array_equal(valid, wanted_valid)
    np.testing.assert_allclose(targets, wanted, atol=1e-6)


@pytest.mark.parametrize("ignored, counts", [(11, True), (12, False), (13, False)])
def test_a_cell_counts_if_less_than_half_of_it_is_ignored(ignored, counts):
    """Cells of 4x6 pixels: with 12 of 24 ignored it does not."""
    labels = np.where(np.arange(24) < ignored, 255, 1).reshape(1, 4, 6)
    assert bool(soft_targets(labels, K, (1, 1))[1].item()) is counts


@pytest.mark.parametrize("size, cell", [((4, 5), 0), ((2, 4), 3)])
def test_loss_and_gradient(size, cell):
    labels = oracle.blocks(1, void=0.4)
    logits = oracle.noise(1, (2, *size, K))
    targets, valid = by_hand(labels, size, cell)
    assert 0 < valid.mean() < 1
    weight = valid / valid.sum()

    def wanted(x):
        return -(weight[..., None] * targets * oracle.log_softmax(x)).sum()

    value, gradient = jax.value_and_grad(lambda x: soft_target_cross_entropy(x, labels, cell=cell).mean())(logits)
    np.testing.assert_allclose(value, wanted(logits), rtol=1e-6)
    np.testing.assert_allclose(gradient, oracle.differences(wanted, logits), atol=1e-6)


def test_cells_of_one_pixel_are_cross_entropy():
    labels = oracle.blocks(2)
    logits = oracle.noise(2, (*labels.shape, K))
    soft, hard = soft_target_cross_entropy(logits, labels), cross_entropy(logits, labels)
    np.testing.assert_allclose([soft.value, soft.count], [hard.value, hard.count], rtol=1e-6)


def test_extreme_logits_and_nothing_labelled():
    labels = oracle.blocks(3)
    logits = np.sign(oracle.noise(3, (2, 4, 5, K))) * np.float32(1e4)
    f = jax.value_and_grad(lambda x, y: soft_target_cross_entropy(x, y).mean())
    value, gradient = f(logits, labels)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    value, gradient = f(logits, np.full_like(labels, 255))
    assert value == 0 and not np.asarray(gradient).any()


@pytest.mark.parametrize("cell", [-1, 2.5, True])
def test_sides_that_are_none(cell):
    with pytest.raises(UserError, match=f"cell={cell} must be a side in pixels"):
        soft_targets(oracle.blocks(0), K, (2, 2), cell=cell)
