import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.losses import cross_entropy, relaxed_cross_entropy
from tests import loss_oracles as oracle

K = 5


@functools.partial(jax.jit, static_argnames=("options",))
def run(x, y, options=(), epoch=0):
    def f(x):
        total = relaxed_cross_entropy(x, y, epoch=epoch, **dict(options))
        return total.mean(), total

    (_, total), gradient = jax.value_and_grad(f, has_aux=True)(x)
    return total, gradient


def relaxed(logits, labels, epoch=0, **options):
    return run(logits, labels, options=tuple(options.items()), epoch=epoch)


@jax.jit
def hard(x, y):
    """(value, gradient) of cross-entropy."""
    return jax.value_and_grad(lambda x: cross_entropy(x, y).mean())(x)


def case(seed=0, shape=(2, 8, 10)):
    labels = oracle.blocks(seed, shape)
    return oracle.noise(seed, (*labels.shape, K)), labels


# The published code's numbers for a tiny case of ours: 3 classes, void 3, class weights with bound 1.
A = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 3]], np.uint8)
B = np.array([[1, 1, 1], [1, 2, 2], [3, 3, 3]], np.uint8)
C, Y, X = np.meshgrid(*[np.arange(3)] * 3, indexing="ij")
LOGITS = np.stack([((7 * C + 3 * Y + 5 * X) % 11) / 2 - 2, ((5 * C + 2 * Y + 7 * X + 3) % 11) / 2 - 2])
LOGITS = np.moveaxis(LOGITS, 1, -1).astype(np.float32)
LABELS = np.stack([A, B])


@pytest.mark.parametrize(
    "images, options, wanted",
    [
        (slice(0, 1), {}, 1.249471),
        (slice(1, 2), {}, 0.836040),
        (slice(0, 2), {}, 3.702311),
        (slice(0, 2), {"strict_classes": (1,)}, 6.931053),
        (slice(0, 1), {"off_epoch": -1}, 4.426957),
        (slice(1, 2), {"off_epoch": -1}, 5.346541),
        (slice(0, 2), {"off_epoch": -1}, 19.080530),
        (slice(0, 2), {"images_per_device": 1}, (1.249471 + 0.836040) / 2),
        (slice(0, 2), {"images_per_device": 1, "off_epoch": -1}, (4.426957 + 5.346541) / 2),
    ],
)
def test_reference_mode_gives_the_published_numbers(images, options, wanted):
    total, _ = relaxed(LOGITS[images], LABELS[images], ignore_label=3, mode="reference", upper_bound=1.0, **options)
    np.testing.assert_allclose(total.mean(), wanted, atol=1e-6 * max(1, wanted))


def test_paper_mode_is_equation_5():
    for image, wanted in ((0, 0.804912), (1, 0.556508)):
        total, _ = relaxed(LOGITS[image : image + 1], LABELS[image : image + 1], ignore_label=3)
        np.testing.assert_allclose(total.mean(), wanted, atol=1e-6)


def test_per_image_mode_is_the_published_form_with_each_pixels_own_count():
    total, _ = relaxed(LOGITS, LABELS, ignore_label=3, mode="per_image", upper_bound=1.0)
    np.testing.assert_allclose(total.mean(), (1.249471 + 0.836040) / 2, atol=1e-6)


@pytest.mark.parametrize("mode", ["paper", "per_image"])
@pytest.mark.parametrize(
    "options",
    [{}, {"window": 5}, {"strict_classes": (1, 3)}, {"upper_bound": 6.0}, {"class_weights": (1, 2, 3, 4, 0.5)}],
)
def test_values_and_gradients_against_numpy(options, mode):
    logits, labels = case(3)
    labels[0, :, :5] = 255
    own = oracle.one_hot(labels, K)
    sets = oracle.window_sets(labels, K, options.get("window", 3))
    strict = np.isin(labels, options.get("strict_classes", ()))
    sets = np.where(strict[..., None], np.concatenate([own, np.zeros_like(own[..., :1])], -1), sets)
    counts = sets.sum((1, 2))
    members = sets[..., :K]
    weights = np.broadcast_to(np.asarray(options.get("class_weights", np.ones(K)), np.float64), (2, K))
    if "upper_bound" in options:
        frequency = counts[:, :K] / counts.sum(-1, keepdims=True)
        weights = np.where(counts[:, :K] > 0, 1 + 6.0 * (1 - frequency), 1)
    size = members.sum(-1)
    factor = (members * weights[:, None, None]).sum(-1) / np.maximum(size, 1)
    supervised = size > 0
    if mode == "paper":
        factor = factor / supervised.sum()
    else:
        factor = factor / (supervised.sum((1, 2)) + 1)[:, None, None] / 2
    total, gradient = relaxed(logits, labels, mode=mode, **options)
    np.testing.assert_allclose(total.mean(), (factor * oracle.set_nll(logits, members)).sum(), rtol=2e-6)
    np.testing.assert_allclose(gradient, factor[..., None] * oracle.set_nll_gradient(logits, members), atol=1e-7)


def test_the_second_phase_is_hard_and_stresses_boundaries():
    logits, labels = case(4)
    nll = oracle.set_nll(logits, oracle.one_hot(labels, K))
    valid = labels != 255
    for stress in (1.0, 2.0, 5.0):
        total, _ = relaxed(logits, labels, off_epoch=-1, boundary_weight=stress)
        wanted = np.where(oracle.boundaries(labels), stress, 1.0) * nll
        np.testing.assert_allclose(total.mean(), wanted.sum() / valid.sum(), rtol=1e-6)


def test_one_program_serves_both_phases():
    logits, labels = case(5)
    before = run._cache_size()
    values = [float(relaxed(logits, labels, off_epoch=7, upper_bound=1.0, epoch=e)[0].mean()) for e in (0, 7, 8, 9)]
    assert run._cache_size() == before + 1
    assert values[0] == values[1] and values[2] == values[3]
    np.testing.assert_allclose(values[0], relaxed(logits, labels, upper_bound=1.0)[0].mean(), rtol=1e-6)
    np.testing.assert_allclose(values[2], relaxed(logits, labels, upper_bound=1.0, off_epoch=-1)[0].mean(), rtol=1e-6)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_never_more_than_the_hard_loss_of_the_same_pixels(seed):
    logits, labels = case(seed)
    soft = relaxed(logits, labels)[0]
    of_labels = oracle.set_nll(logits, oracle.one_hot(labels, K))
    beside = oracle.window_sets(labels, K)[..., :K]
    only_beside = np.where(labels == 255, oracle.set_nll(logits, beside), 0).sum()  # ignored, with labelled neighbours
    assert soft.value <= of_labels.sum() + only_beside + 1e-3


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_window_of_one_pixel_is_cross_entropy(seed):
    logits, labels = case(seed)
    total, gradient = relaxed(logits, labels, window=1)
    value, wanted = hard(logits, labels)
    np.testing.assert_allclose(total.mean(), value, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted, atol=1e-7)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_renaming_the_classes_changes_nothing(seed):
    logits, labels = case(seed)
    order = np.random.default_rng(seed).permutation(K)
    renamed = np.where(labels == 255, 255, np.argsort(order)[np.minimum(labels, K - 1)]).astype(np.uint8)
    total, gradient = relaxed(logits, labels, upper_bound=2.0)
    other, other_gradient = relaxed(logits[..., order], renamed, upper_bound=2.0)
    np.testing.assert_allclose(total.mean(), other.mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient[..., order], other_gradient, atol=1e-7)


@pytest.mark.parametrize("mode", ["paper", "per_image", "reference"])
@pytest.mark.parametrize("off_epoch", [None, -1])
def test_a_batch_without_labels_is_zero(mode, off_epoch):
    logits, labels = case(0)
    total, gradient = relaxed(logits, np.full_like(labels, 255), mode=mode, upper_bound=1.0, off_epoch=off_epoch)
    assert total.mean() == 0 and not np.asarray(gradient).any()


@pytest.mark.parametrize("mode", ["paper", "per_image", "reference"])
def test_extreme_logits_stay_finite(mode):
    logits, labels = case(0)
    for scale in (1e4, 1e30):
        total, gradient = relaxed(np.sign(logits) * np.float32(scale), labels, mode=mode, upper_bound=1.0)
        assert np.isfinite(total.mean()) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "options, text",
    [
        ({"mode": "papr"}, "Did you mean 'paper'"),
        ({"strict_classes": (4, 5)}, r"strict_classes \[5\]"),
        ({"images_per_device": 1}, "mode='reference' only"),
        ({"images_per_device": 3, "mode": "reference"}, "multiple"),
        ({"class_weights": (1.0,)}, "5 classes need"),
        ({"window": 2}, "window=2 must be the odd side"),
        ({"upper_bound": -1.0}, "upper_bound=-1.0 must be 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(options, text):
    with pytest.raises(UserError, match=text):
        relaxed_cross_entropy(*case(), **options)
