import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.losses import cross_entropy, soft_target_cross_entropy, soft_targets
from tests import loss_oracles as oracle

K = 5


def by_hand(labels, rows, columns, high, wide):
    """(targets, valid) cell by cell."""
    targets, valid = np.zeros((len(labels), rows, columns, K)), np.zeros((len(labels), rows, columns), bool)
    for i, r, c in np.ndindex(valid.shape):
        cell = labels[i, r * high : (r + 1) * high, c * wide : (c + 1) * wide].ravel()
        known = cell[cell < K]
        valid[i, r, c] = high * wide - len(known) < 0.5 * high * wide
        targets[i, r, c] = np.bincount(known, minlength=K) / max(1, len(known))
    return targets, valid


@pytest.mark.parametrize("size, cell", [((4, 5), 0), ((2, 2), 0), ((8, 10), 0), ((1, 1), 0), ((3, 4), 3), ((1, 1), 16)])
def test_shares_of_the_cells(size, cell):
    labels = oracle.blocks(0, (3, 8, 10), void=0.4)
    high, wide = (cell, cell) if cell else (8 // size[0], 10 // size[1])
    targets, valid = soft_targets(labels, K, size, cell=cell)
    wanted, wanted_valid = by_hand(labels, *size, high, wide)
    np.testing.assert_array_equal(valid, wanted_valid)
    np.testing.assert_allclose(targets, wanted, atol=1e-6)


def test_loss_and_gradient():
    labels = oracle.blocks(1, void=0.4)
    logits = oracle.noise(1, (2, 4, 5, K))
    targets, valid = by_hand(labels, 4, 5, 2, 2)
    weight = valid / valid.sum()

    def wanted(x):
        return -(weight[..., None] * targets * oracle.log_softmax(x)).sum()

    value, gradient = jax.value_and_grad(lambda x: soft_target_cross_entropy(x, labels).mean())(logits)
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


@pytest.mark.parametrize("size, cell", [((3, 5), 0), ((2, 2), 3)])
def test_grids_that_do_not_cover_the_image(size, cell):
    with pytest.raises(UserError, match="do not cover an image of 8x10"):
        soft_targets(oracle.blocks(0), K, size, cell=cell)
