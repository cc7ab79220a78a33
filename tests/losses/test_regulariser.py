"""The model regulariser: cross entropy with equal shares of all classes, against float64."""

import jax
import numpy as np

from segjax.losses import model_regulariser
from tests import loss_oracles as oracle

K = 5
both = jax.jit(jax.value_and_grad(lambda x, y: model_regulariser(x, y).mean()))


def case(seed=0):
    labels = oracle.blocks(seed)
    labels[1, :, 6:] = 255
    labels[0, 0, 0] = K + 2  # no class
    return oracle.noise(seed, (*labels.shape, K)), labels


def by_hand(logits, labels):
    """-1/k sum over classes of log softmax, mean over the valid pixels."""
    log_p = oracle.log_softmax(logits)
    values = [-sum(log_p[place]) / K for place in np.ndindex(labels.shape) if labels[place] < K]
    return sum(values) / len(values)


def test_value_and_gradient():
    logits, labels = case()
    value, gradient = both(logits, labels)
    np.testing.assert_allclose(value, by_hand(logits, labels), rtol=1e-6)
    assert float(model_regulariser(logits, labels).count) == (labels < K).sum()

    def of_corner(corner):
        return by_hand(np.concatenate([corner, logits[:, :, 2:]], 2), labels)

    slope = oracle.differences(of_corner, logits[:, :, :2])
    np.testing.assert_allclose(gradient[:, :, :2], slope, atol=1e-6)
    wanted = (np.exp(oracle.log_softmax(logits)) - 1 / K) * (labels < K)[..., None] / (labels < K).sum()
    np.testing.assert_allclose(gradient, wanted, atol=1e-7)


def test_which_class_a_pixel_has_does_not_matter():
    logits, labels = case(1)
    other = np.where(labels < K, (labels + 1) % K, labels).astype(np.uint8)
    np.testing.assert_array_equal(both(logits, labels)[0], both(logits, other)[0])


def test_equal_logits_are_the_least():
    logits, labels = case(2)
    value, gradient = both(0 * logits, labels)
    np.testing.assert_allclose(value, np.log(K), rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-8)
    assert both(logits, labels)[0] > value


def test_a_batch_without_labels_is_zero():
    logits, labels = case(0)
    value, gradient = both(logits, np.full_like(labels, 255))
    assert value == 0 and not np.asarray(gradient).any()


def test_extreme_logits_stay_finite():
    logits, labels = case(0)
    value, gradient = both(np.sign(logits) * np.float32(1e30), labels)
    assert np.isfinite(value) and np.isfinite(gradient).all()
