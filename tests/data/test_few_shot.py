"""Few-shot subsets: so many images of each class, none twice, nested, and as many shots as any choice allows."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.few_shot import choose_shots

PRESENCE = st.integers(1, 4).flatmap(
    lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=14)
)


def possible(shown, shots):
    """Whether every set of classes has its images: Hall's condition, tried on all sets."""
    sets = [c for n in range(1, shown.shape[1] + 1) for c in itertools.combinations(range(shown.shape[1]), n)]
    return all(shown[:, c].any(axis=1).sum() >= shots * len(c) for c in sets)


@settings(max_examples=200)
@given(PRESENCE, st.integers(0, 3))
def test_each_class_gets_its_images_if_any_choice_gives_them(rows, seed):
    shown = np.array(rows)
    most = next(shots for shots in range(20) if not possible(shown, shots + 1))
    before = np.zeros(len(shown), bool)
    for shots in range(most + 1):
        found = choose_shots(shown, shots, seed)
        assert (found.complete, found.short) == (shots, ())
        assert found.keep.sum() == shots * shown.shape[1]
        assert possible(shown[found.keep], shots)  # so many images of each class, none counted twice
        assert not (before & ~found.keep).any()  # fewer shots are inside
        np.testing.assert_array_equal(choose_shots(shown, shots, seed).keep, found.keep)
        before = found.keep
    found = choose_shots(shown, most + 2, seed)
    assert found.complete == most
    assert shown[:, found.short].any(axis=1).sum() < (most + 1) * len(found.short)


def test_a_rare_class_is_not_robbed_by_common_ones():
    """The images of the rare class also show the common ones, which give them up in a later round."""
    shown = np.ones((40, 3), bool)
    shown[10:, 2] = False
    for seed in range(10):
        assert choose_shots(shown, 10, seed).keep[:10].all()


def test_a_long_chain_of_classes():
    """Class c is in the images c and c + 1, so that the last free image may be at the other end."""
    shown = np.eye(60, dtype=bool) | np.eye(60, k=-1, dtype=bool)
    for seed in range(5):
        found = choose_shots(shown, 1, seed)
        assert found.keep.all() and not found.short


def test_every_seed_gives_other_images():
    shown = np.random.default_rng(0).random((50, 4)) < 0.5
    subsets = {choose_shots(shown, 2, seed).keep.tobytes() for seed in range(12)}
    assert len(subsets) == 12
    drawn = np.mean([choose_shots(np.ones((50, 1), bool), 5, seed).keep for seed in range(600)], axis=0)
    assert abs(drawn - 0.1).max() < 0.06  # every image as often as any other
