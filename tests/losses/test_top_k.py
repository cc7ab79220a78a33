"""Cross entropy with the kept probabilities of a teacher, against a loop over pixels in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from segjax.losses import cross_entropy, targets_of, top_k_cross_entropy
from tests import loss_oracles as oracle

B, H, W, K, N = 2, 6, 7, 5, 3
both = jax.jit(jax.value_and_grad(lambda x, *targets: top_k_cross_entropy(x, *targets).mean()))


def case(seed=0):
    """Logits, labels, ids and shares as a dataset has them: 8-bit probabilities of less than 1 in total, padding."""
    rng = np.random.default_rng(seed)
    labels = oracle.blocks(seed, (B, H, W), classes=K)
    ids = np.argsort(rng.random((B, H, W, K)), axis=-1)[..., :N].astype(np.int32)
    shares = np.round(255 * rng.dirichlet(np.ones(N + 2), (B, H, W)))[..., :N].astype(np.float32) / 255
    ids[0, 0, :3, 1:], shares[0, 0, :3, 1:] = 255, 0  # two empty places
    ids[:, :, -1], shares[:, :, -1] = 255, 0  # padding
    shares[1, 2] = 0  # nothing is kept
    return oracle.noise(seed, (B, H, W, K)), labels, ids, shares


def by_hand(logits, labels, ids, shares):
    """(sum, count), pixel by pixel."""
    log_p, total, count = oracle.log_softmax(logits), 0.0, 0
    for place in np.ndindex(labels.shape):
        kept = [(i, float(s)) for i, s in zip(ids[place], shares[place]) if i < K]
        whole = sum(share for _, share in kept)
        if labels[place] < K and whole > 0:
            total -= sum(share / whole * log_p[place][i] for i, share in kept)
            count += 1
    return total, count


def test_value_count_and_gradient():
    logits, *targets = case()
    found, (total, count) = top_k_cross_entropy(logits, *targets), by_hand(logits, *targets)
    assert 20 < count == float(found.count)
    np.testing.assert_allclose(found.value, total, rtol=1e-6)
    value, gradient = both(logits, *targets)
    np.testing.assert_allclose(value, total / count, rtol=1e-6)

    def of_rows(rows):
        return np.divide(*by_hand(np.concatenate([rows, logits[:, 2:]], 1), *targets))

    np.testing.assert_allclose(gradient[:, :2], oracle.differences(of_rows, logits[:, :2]), atol=1e-6)
    plain = jax.grad(lambda x: plain_form(x, *targets))(jnp.asarray(logits))
    np.testing.assert_allclose(gradient, plain, atol=1e-7)


def plain_form(logits, labels, ids, shares):
    known = jax.nn.one_hot(ids, K)  # 0 for ids beyond the classes
    dense = (known * shares[..., None]).sum(-2)
    whole = dense.sum(-1)
    valid = (labels < K) & (whole > 0)
    value = -(dense * jax.nn.log_softmax(logits)).sum(-1) / jnp.where(whole > 0, whole, 1)
    return jnp.where(valid, value, 0).sum() / valid.sum()


def test_ignored_and_empty_pixels_do_not_matter():
    logits, labels, ids, shares = case(1)
    ignored = (labels == 255) | ~((shares > 0) & (ids < K)).any(-1)
    other = np.where(ignored[..., None], 1e4 * oracle.noise(2, logits.shape), logits)
    value, gradient = both(other, labels, ids, shares)
    np.testing.assert_array_equal(value, both(logits, labels, ids, shares)[0])
    assert ignored.any() and not np.asarray(gradient)[ignored].any()


def test_a_batch_without_labels_is_zero():
    logits, labels, ids, shares = case(1)
    for targets in ((np.full_like(labels, 255), ids, shares), (labels, ids, 0 * shares), (labels, ids + 255, shares)):
        value, gradient = both(logits, *targets)
        assert value == 0 and not np.asarray(gradient).any()


def test_one_class_with_any_share_is_plain_cross_entropy():
    logits, labels, *_ = case(2)
    ids = labels[..., None].astype(np.int32)
    value, gradient = both(logits, labels, ids, np.full(ids.shape, 0.3, np.float32))
    wanted, wanted_gradient = jax.value_and_grad(lambda x: cross_entropy(x, labels).mean())(logits)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-7)


def test_extreme_logits_stay_finite():
    logits, *targets = case(3)
    value, gradient = both(np.sign(logits) * np.float32(1e30), *targets)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_it_declares_what_it_needs():
    assert targets_of(top_k_cross_entropy) == ("labels", "soft_ids", "soft_shares")
    assert targets_of(cross_entropy) == ("labels",)
