import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.ops.windows import class_sets, has_class, is_class, set_size, thick_boundaries
from tests import loss_oracles as oracle


def unpacked(sets, number):
    """The first `number` bits of each set, (..., number) bool."""
    words = np.asarray(sets)
    return np.stack([(words[c // 32] >> (c % 32)) & 1 for c in range(number)], axis=-1).astype(bool)


@pytest.mark.parametrize(
    "h, w, window, classes",
    [
        *((6, 5, 3, classes) for classes in (1, 5, 19, 31, 32, 33, 64, 150)),
        *((*shape, classes) for shape in ((1, 1, 3), (1, 6, 5), (3, 2, 7), (4, 4, 1)) for classes in (5, 32)),
    ],
)
def test_sets_hold_the_classes_of_the_window_and_void(h, w, window, classes):
    labels = np.random.default_rng(classes).integers(0, classes + 1, (2, h, w)).astype(np.uint8)
    labels[labels == classes] = 255
    sets = jax.jit(lambda x: class_sets(x, classes, window=window))(labels)
    wanted = oracle.window_sets(labels, classes, window)
    assert sets.shape == (classes // 32 + 1, 2, h, w) and sets.dtype == np.uint32
    np.testing.assert_array_equal(unpacked(sets, classes + 1), wanted)
    np.testing.assert_array_equal(set_size(sets, classes), wanted[..., :classes].sum(-1))


def test_ids_that_are_no_class_are_void():
    labels = np.array([[-1, 0, 3, 7, 2]], np.int32)
    np.testing.assert_array_equal(is_class(labels, 3), [[False, True, False, False, True]])
    np.testing.assert_array_equal(is_class(labels, 3, ignore_label=2), [[False, True, False, False, False]])
    sets = class_sets(labels, 3, window=1, ignore_label=2)
    np.testing.assert_array_equal(unpacked(sets, 4)[0].argmax(-1), [3, 0, 3, 3, 3])


def test_leading_axes_are_independent():
    labels = oracle.blocks(0, (6, 7, 5))
    whole = class_sets(labels.reshape(2, 3, 7, 5), 5)
    for i in range(6):
        np.testing.assert_array_equal(whole[:, i // 3, i % 3], class_sets(labels[i], 5))


@pytest.mark.parametrize("window", [0, 2, -1])
def test_even_windows_have_no_middle(window):
    with pytest.raises(ValueError, match="odd"):
        class_sets(np.zeros((1, 2, 2), np.uint8), 3, window=window)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), labels=st.lists(st.integers(0, 40), max_size=3))
def test_a_class_is_in_its_own_set(seed, labels):
    labels = np.array([[*labels, seed % 41]], np.uint8)
    sets = class_sets(np.pad(labels, [(0, 0), (0, 4 - labels.shape[1])]), 41)
    assert all(has_class(sets, int(c))[0, i] == 1 for i, c in enumerate(labels[0]))


@pytest.mark.parametrize("seed, h, w", [(0, 6, 5), (1, 1, 1), (2, 1, 6), (3, 6, 1), (4, 2, 2)])
def test_boundaries_are_thick(seed, h, w):
    labels = np.random.default_rng(seed).integers(0, 3, (2, h, w)).astype(np.uint8)
    np.testing.assert_array_equal(thick_boundaries(labels), oracle.boundaries(labels))


def test_boundaries_of_the_published_example():
    a = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 3]])
    b = np.array([[1, 1, 1], [1, 2, 2], [3, 3, 3]])
    wanted = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 1]], bool)
    np.testing.assert_array_equal(thick_boundaries(np.stack([a, b])), [wanted, wanted])
    sets = class_sets(np.stack([a, b]), 3, ignore_label=3)
    np.testing.assert_array_equal(
        np.maximum(set_size(sets, 3), 1), [[[1, 2, 2], [2, 3, 3], [2, 3, 3]], [[2, 2, 2], [2, 2, 2], [2, 2, 1]]]
    )


def test_works_under_jit_and_vmap():
    labels = oracle.blocks(3, (3, 6, 6))
    by_image = jax.jit(jax.vmap(lambda y: class_sets(y, 5), out_axes=1))(labels)
    np.testing.assert_array_equal(by_image, class_sets(labels, 5))
