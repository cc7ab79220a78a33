import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses.negative_log import nll, set_nll, soft_nll
from segjax.ops.windows import class_sets
from tests import loss_oracles as oracle

CASES = {
    "ordinary": (0, 3.0, 0.0),
    "common offset": (1, 3.0, 1e4),
    "wide": (2, 1e4, 0.0),
    "equal": (3, 0.0, -1e4),
    "confident": (4, 40.0, 0.0),
}


@pytest.mark.parametrize("classes", [1, 5, 40])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_float64(case, classes):
    seed, scale, offset = CASES[case]
    labels = oracle.blocks(seed, classes=classes)
    logits = oracle.noise(seed, (*labels.shape, classes), scale) + np.float32(offset)
    weight = np.random.default_rng(seed).uniform(0.5, 2, labels.shape).astype(np.float32)
    sets = class_sets(labels, classes)
    for function, target, members in (
        (nll, labels.astype(np.int32), oracle.one_hot(labels, classes)),
        (set_nll, sets, oracle.window_sets(labels, classes)[..., :classes]),
    ):
        value, vjp = jax.vjp(lambda x, f=function, t=target: f(x, t), jnp.asarray(logits))
        wanted = oracle.set_nll(logits, members)
        np.testing.assert_allclose(value, wanted, rtol=2e-6, atol=2e-6)
        assert (np.asarray(value) >= 0).all()
        gradient = weight[..., None] * oracle.set_nll_gradient(logits, members)
        # the weight of a member is exp(log p + nll): digits are lost where nll itself is thousands
        tolerance = 4e-6 + 2e-7 * np.abs(wanted).max()
        np.testing.assert_allclose(vjp(weight)[0], gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_shares_of_classes(case):
    """Shares that sum to 1, or are 0: -sum of share * log softmax in float64, and softmax - share."""
    seed, scale, offset = CASES[case]
    rng = np.random.default_rng(seed)
    logits = oracle.noise(seed, (2, 8, 10, 5), scale) + np.float32(offset)
    shares = rng.dirichlet(np.ones(5), (2, 8, 10)).astype(np.float32)
    shares[0, :3] = 0
    weight = rng.uniform(0.5, 2, (2, 8, 10)).astype(np.float32)
    value, vjp = jax.vjp(lambda x: soft_nll(x, jnp.asarray(shares)), jnp.asarray(logits))
    log_p, total = oracle.log_softmax(logits), shares.astype(np.float64).sum(-1, keepdims=True)
    wanted = -(shares * log_p).sum(-1)
    np.testing.assert_allclose(value, wanted, rtol=2e-6, atol=2e-6)
    assert not np.asarray(value)[0, :3].any()
    gradient = weight[..., None] * (total * np.exp(log_p) - shares)
    np.testing.assert_allclose(vjp(weight)[0], gradient, rtol=4e-6, atol=4e-6)


def test_the_gradient_is_the_slope():
    labels = oracle.blocks(7, (1, 3, 4), classes=4)
    logits = oracle.noise(7, (*labels.shape, 4), 1.0)
    sets = class_sets(labels, 4)
    members = oracle.window_sets(labels, 4)[..., :4]
    slope = oracle.differences(lambda x: oracle.set_nll(x, members).sum(), logits)
    np.testing.assert_allclose(jax.grad(lambda x: set_nll(x, sets).sum())(logits), slope, atol=1e-6)
    one = oracle.one_hot(labels, 4)
    slope = oracle.differences(lambda x: oracle.set_nll(x, one).sum(), logits)
    np.testing.assert_allclose(jax.grad(lambda x: nll(x, labels.astype(np.int32)).sum())(logits), slope, atol=1e-6)


def test_mass_that_underflows_keeps_its_value_and_gradient():
    logits = np.array([[200.0, 0.0, -1.0], [-1e4, 1e4, -1e4]], np.float32)
    sets = np.array([[0b110, 0b001]], np.uint32)
    value, vjp = jax.vjp(lambda x: set_nll(x, sets), logits)
    np.testing.assert_allclose(value, [200 - np.log1p(np.exp(-1)), 2e4], rtol=1e-6)
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(
        vjp(np.ones(2, np.float32))[0], [[1, -share, share - 1], [-1, 1, 0]], rtol=1e-5, atol=1e-6
    )


def test_all_classes_weigh_nothing():
    logits = oracle.noise(0, (4, 33), 5.0)
    sets = np.full((2, 4), 0xFFFFFFFF, np.uint32)
    value, vjp = jax.vjp(lambda x: set_nll(x, sets), logits)
    np.testing.assert_array_equal(value, np.zeros(4))
    np.testing.assert_allclose(vjp(np.ones(4, np.float32))[0], 0, atol=1e-6)


def test_nan_stays_visible():
    logits = np.full((1, 3), np.nan, np.float32)
    assert np.isnan(nll(logits, np.array([1]))).all() and np.isnan(set_nll(logits, np.array([[2]], np.uint32))).all()
