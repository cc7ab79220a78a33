"""Divergence from a teacher, against a loop over pixels in float64."""

import jax
import numpy as np

from segjax.losses import distillation, targets_of
from tests import loss_oracles as oracle

B, H, W, K = 2, 5, 6, 4


def test_value_count_and_gradient():
    logits, teacher = oracle.noise(0, (B, H, W, K)), oracle.noise(1, (B, H, W, K))
    labels = oracle.blocks(0, (B, H, W), classes=K)
    labels[0, :2] = 255
    ours, theirs = oracle.log_softmax(logits), oracle.log_softmax(teacher)
    by_pixel = (np.exp(theirs) * (theirs - ours)).sum(-1)
    for unlabelled, kept in ((True, np.ones(labels.shape, bool)), (False, labels != 255)):
        found = distillation(logits, labels, teacher, unlabelled=unlabelled)
        np.testing.assert_allclose(found.value, by_pixel[kept].sum(), rtol=1e-5)
        assert found.count == K * kept.sum()

        def value(x, y, unlabelled=unlabelled):
            return distillation(x, labels, y, unlabelled=unlabelled).value

        gradient, of_teacher = jax.grad(value, argnums=(0, 1))(logits, teacher)
        expected = np.where(kept[..., None], np.exp(ours) - np.exp(theirs), 0)
        np.testing.assert_allclose(gradient, expected, atol=1e-5)
        assert not np.any(of_teacher)


def test_the_teacher_itself_has_no_loss():
    logits = oracle.noise(0, (B, H, W, K))
    assert abs(float(distillation(logits, np.zeros((B, H, W), int), logits + 3.0).mean())) < 1e-6


def test_it_needs_labels_and_a_teacher():
    assert targets_of(distillation) == ("labels", "teacher")
