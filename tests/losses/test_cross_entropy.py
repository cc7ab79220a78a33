import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.losses import cross_entropy
from tests import loss_oracles as oracle

K = 5
WEIGHTS = (0.5, 1.0, 2.0, 0.25, 3.0)
both = jax.jit(
    jax.value_and_grad(lambda x, y, **kw: cross_entropy(x, y, **kw).mean()),
    static_argnames=("weight_mode", "upper_bound"),
)


def case(seed=0):
    labels = oracle.blocks(seed)
    return oracle.noise(seed, (*labels.shape, K)), labels


def weights_of(labels, upper_bound):
    """1 + bound * (1 - frequency among the valid pixels) of the classes each image has; (b, k)."""
    counts = oracle.one_hot(labels, K).sum((1, 2))
    frequency = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return np.where(counts > 0, 1 + upper_bound * (1 - frequency), 1.0)


def by_hand(logits, labels, weights, mode):
    one_hot = oracle.one_hot(labels, K)
    nll = oracle.set_nll(logits, one_hot)
    weight = (one_hot * np.broadcast_to(weights, (len(labels), K))[:, None, None]).sum(-1)
    if mode == "pixel_mean":
        return (weight * nll).sum() / one_hot.sum()
    if mode == "weighted_mean":
        return (weight * nll).sum() / weight.sum()
    means = [(w * v).sum() / w.sum() for w, v in zip(weight, nll) if w.sum()]
    return np.mean(means)


@pytest.mark.parametrize("mode", ["weighted_mean", "pixel_mean", "image_mean"])
@pytest.mark.parametrize("kind", ["none", "classes", "images", "histogram"])
def test_every_mean_of_every_weight(kind, mode):
    logits, labels = case(1)
    labels[1, :, 3:] = 255
    given = {
        "none": {},
        "classes": {"class_weights": np.float32(WEIGHTS)},
        "images": {"class_weights": np.random.default_rng(0).uniform(0.1, 2, (2, K)).astype(np.float32)},
        "histogram": {"upper_bound": 6.0},
    }[kind]
    weights = weights_of(labels, 6.0) if kind == "histogram" else np.asarray(given.get("class_weights", np.ones(K)))
    value, gradient = both(logits, labels, weight_mode=mode, **given)
    np.testing.assert_allclose(value, by_hand(logits, labels, weights, mode), rtol=1e-6)

    def of_corner(corner):
        return by_hand(np.concatenate([corner, logits[:, :, 2:]], 2), labels, weights, mode)

    slope = oracle.differences(of_corner, logits[:, :, :2])
    np.testing.assert_allclose(gradient[:, :, :2], slope, atol=1e-6)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_renaming_the_classes_changes_nothing(seed):
    logits, labels = case(seed)
    order = np.random.default_rng(seed).permutation(K)
    renamed = np.where(labels == 255, 255, np.argsort(order)[np.minimum(labels, K - 1)]).astype(np.uint8)
    weights = np.float32(WEIGHTS)
    value, gradient = both(logits, labels, class_weights=weights)
    other, other_gradient = both(logits[..., order], renamed, class_weights=weights[order])
    np.testing.assert_allclose(value, other, rtol=1e-6)
    np.testing.assert_allclose(gradient[..., order], other_gradient, rtol=1e-5, atol=1e-8)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_ignored_pixels_do_not_matter(seed):
    logits, labels = case(seed)
    ignored = labels == 255
    other = np.where(ignored[..., None], 1e4 * oracle.noise(seed + 1, logits.shape), logits)
    value, gradient = both(logits, labels)
    np.testing.assert_array_equal(value, both(other, labels)[0])
    assert not np.asarray(gradient)[ignored].any()
    np.testing.assert_array_equal(value, both(logits, np.where(ignored, K + 3, labels).astype(np.uint8))[0])


@pytest.mark.parametrize("mode", ["weighted_mean", "pixel_mean", "image_mean"])
def test_a_batch_without_labels_is_zero(mode):
    logits, labels = case(0)
    value, gradient = both(logits, np.full_like(labels, 255), weight_mode=mode, upper_bound=1.0)
    assert value == 0 and not np.asarray(gradient).any()


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extreme_logits_stay_finite(scale):
    logits, labels = case(0)
    value, gradient = both(np.sign(logits) * np.float32(scale), labels)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_bfloat16_logits_are_summed_in_float32():
    logits, labels = case(2)
    logits = jnp.asarray(logits, jnp.bfloat16)
    loss, gradient = jax.value_and_grad(lambda x: cross_entropy(x, labels).value)(logits)
    assert loss.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, oracle.set_nll(logits, oracle.one_hot(labels, K)).sum(), rtol=1e-5)


def test_sums_of_parts_are_the_sum_of_the_whole():
    logits, labels = case(5)
    parts = cross_entropy(logits[:1], labels[:1]) + cross_entropy(logits[1:], labels[1:])
    np.testing.assert_allclose(parts.mean(), cross_entropy(logits, labels).mean(), rtol=1e-6)
    single = cross_entropy(logits[0], labels[0], class_weights=WEIGHTS)  # no batch axis needed
    np.testing.assert_allclose(
        single.value, cross_entropy(logits[:1], labels[:1], class_weights=WEIGHTS).value, rtol=1e-6
    )


@pytest.mark.parametrize(
    "options, text",
    [
        ({"class_weights": (1.0, 2.0)}, "5 classes need"),
        ({"class_weights": WEIGHTS, "upper_bound": 1.0}, "keep one"),
        ({"upper_bound": float("nan")}, "upper_bound=nan must be 0"),
        ({"weight_mode": "weigthed_mean"}, "Did you mean 'weighted_mean'"),
    ],
)
def test_settings_that_do_not_fit_are_named(options, text):
    with pytest.raises(UserError, match=text):
        cross_entropy(*case(), **options)
