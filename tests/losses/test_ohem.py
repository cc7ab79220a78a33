import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.losses import cross_entropy, ohem_cross_entropy
from segjax.losses.kth_smallest import kth_smallest
from tests import loss_oracles as oracle

K = 5


@functools.partial(jax.jit, static_argnames=("options",))
def run(x, y, options):
    def f(x):
        total = ohem_cross_entropy(x, y, **dict(options))
        return total.mean(), total

    (_, total), gradient = jax.value_and_grad(f, has_aux=True)(x)
    return total, gradient


def ohem(logits, labels, **options):
    return run(logits, labels, tuple(options.items()))


def case(seed=0, shape=(2, 8, 10)):
    labels = oracle.blocks(seed, shape)
    return oracle.noise(seed, (*labels.shape, K)), labels


def kept_by_sorting(logits, labels, threshold, min_kept, inclusive):
    """Indices (n, 3) of the kept pixels of one part, by sorting as the published codes do."""
    p = np.exp(-oracle.set_nll(logits, oracle.one_hot(labels, K)))
    where = np.argwhere(labels != 255)
    p = p[tuple(where.T)]
    ranked = np.sort(p)
    if inclusive:
        bound = 1.0 if min_kept > len(p) else max(threshold, ranked[min_kept - 1] if min_kept else 0)
        return where[p <= bound]
    return where[p < max(threshold, ranked[min(min_kept, len(p) - 1)])]


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("threshold, min_kept", [(0.7, 0), (0.3, 10), (0.0, 40), (0.0, 1), (1.0, 3), (0.1, 5000)])
def test_keeps_the_pixels_that_sorting_finds(threshold, min_kept, inclusive):
    logits, labels = case(1)
    kept = tuple(kept_by_sorting(logits, labels, threshold, min_kept, inclusive).T)
    nll = oracle.set_nll(logits, oracle.one_hot(labels, K))
    total, gradient = ohem(logits, labels, threshold=threshold, min_kept=min_kept, inclusive=inclusive)
    assert total.count == len(kept[0])
    np.testing.assert_allclose(total.value, nll[kept].sum(), rtol=1e-5)
    wanted = np.zeros(logits.shape)
    wanted[kept] = oracle.set_nll_gradient(logits, oracle.one_hot(labels, K))[kept] / len(kept[0])
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)


@pytest.mark.parametrize("images", [1, 2])
def test_parts_of_a_batch_are_searched_on_their_own(images):
    logits, labels = case(2, (4, 6, 8))
    labels[0] = 255
    total, _ = ohem(logits, labels, threshold=0.0, min_kept=7, images_per_device=images)
    kept = [
        kept_by_sorting(logits[i : i + images], labels[i : i + images], 0.0, 7, True)
        for i in range(0, 4, images)
        if (labels[i : i + images] != 255).any()
    ]
    assert total.count == sum(map(len, kept))


def test_a_share_is_a_number_of_pixels():
    logits, labels = case(3)
    share = ohem(logits, labels, threshold=0.0, min_kept=0.25)[0]
    number = ohem(logits, labels, threshold=0.0, min_kept=labels.size // 4)[0]
    assert share.value == number.value and share.count == number.count == labels.size // 4


def test_weights_are_those_of_cross_entropy():
    logits, labels = case(4)
    weights = (0.5, 1.0, 2.0, 0.25, 3.0)
    for mode in ("weighted_mean", "pixel_mean", "image_mean"):
        everything = ohem(logits, labels, threshold=1.0, class_weights=weights, weight_mode=mode)[0]
        plain = cross_entropy(logits, labels, class_weights=weights, weight_mode=mode)
        np.testing.assert_allclose(everything.mean(), plain.mean(), rtol=1e-6)


@pytest.mark.parametrize("inclusive", [True, False])
def test_a_batch_without_labels_is_zero(inclusive):
    logits, labels = case(0)
    total, gradient = ohem(logits, np.full_like(labels, 255), inclusive=inclusive)
    assert total.mean() == 0 and not np.asarray(gradient).any()


def test_extreme_logits_stay_finite_and_nan_is_not_hidden():
    logits, labels = case(0)
    total, gradient = ohem(np.sign(logits) * np.float32(1e4), labels)
    assert np.isfinite(total.mean()) and np.isfinite(gradient).all()
    assert np.isnan(ohem(np.full_like(logits, np.nan), labels)[0].value)


def test_settings_that_do_not_fit_are_named():
    for options, text in (
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"images_per_device": 3}, "multiple"),
        ({"weight_mode": "none"}, "weight_mode"),
    ):
        with pytest.raises(UserError, match=text):
            ohem_cross_entropy(*case(), **options)


@functools.partial(jax.jit, static_argnames="at_least")
def search(x, rank, at_least=0.0):
    return kth_smallest(x, rank, (0,), at_least=at_least)


@settings(max_examples=60)
@given(
    x=st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12),
    rank=st.integers(1, 12),
    at_least=st.sampled_from([0.0, 0.25, 0.7, 1.0]),
)
def test_kth_smallest_is_exact(x, rank, at_least):
    x = np.abs(np.float32(x))
    assert search(x, rank)[0] == np.sort(x)[rank - 1]
    assert search(x, rank, at_least)[0] == max(np.float32(at_least), np.sort(x)[rank - 1])


def test_kth_smallest_of_several_rows_with_padding():
    x = np.float32([[0.5, 2, 2, 0.25], [2, 2, 2, 2], [1e-40, 0, 1, 0.75]])
    got = kth_smallest(x, jnp.array([[2], [1], [2]]), (1,))
    # denormal numbers may be flushed to zero before they get here
    assert got.shape == (3, 1) and got[0, 0] == 0.5 and got[1, 0] == 1 and got[2, 0] <= np.float32(1e-40)
