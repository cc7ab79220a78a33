import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.losses import presence_cross_entropy
from tests import loss_oracles as oracle

K = 5


def by_hand(logits, labels):
    """(sum, count) in float64, image by image."""
    total, count = 0.0, 0
    for x, y in zip(logits.astype(np.float64), labels):
        present = np.array([(y == c).any() for c in range(K)])
        if present.any():
            p = 1 / (1 + np.exp(-x))
            total -= np.log(np.where(present, p, 1 - p)).sum()
            count += K
    return total, count


def test_loss_of_present_absent_and_unknown_classes():
    labels = oracle.blocks(0, (3, 8, 10), void=0.4)
    labels[0][labels[0] == 2] = 1
    labels[1] = 255  # does not count
    labels[2, 0, 0] = 77  # no class
    logits = 3 * oracle.noise(0, (3, K))
    found = presence_cross_entropy(logits, labels)
    total, count = by_hand(logits, labels)
    assert float(found.count) == count == 2 * K
    np.testing.assert_allclose(found.value, total, rtol=1e-5)


def test_gradient_and_large_logits():
    labels = np.array([[[0, 1]], [[255, 255]]], np.uint8)
    logits = np.array([[1e4, -1e4, -1e4, 1e4, 0], [1, 2, 3, 4, 5]], np.float32)
    value, grad = jax.value_and_grad(lambda x: presence_cross_entropy(x, labels).value)(logits)
    np.testing.assert_allclose(value, 2e4 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(grad, [[0, -1, 0, 1, 0.5], [0] * 5], atol=1e-6)


def test_another_ignore_label_and_nothing_labelled():
    labels = np.zeros((2, 4, 4), np.int32)
    found = presence_cross_entropy(np.zeros((2, K), np.float32), labels, ignore_label=0)
    assert float(found.value) == float(found.count) == float(found.mean()) == 0


def test_maps_are_refused():
    with pytest.raises(UserError, match="one number per image and class"):
        presence_cross_entropy(np.zeros((2, 4, 4, K), np.float32), np.zeros((2, 4, 4), np.int32))
