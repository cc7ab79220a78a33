"""Labels as colours: each where it belongs, and what a reader must be able to see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax import visualize

PALETTE = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)], np.uint8)


def labels(h=20, w=30, k=3, seed=0):
    return np.random.default_rng(seed).integers(0, k, (h, w)).astype(np.uint8)


def picture(h=20, w=30, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_colorize_is_a_table_lookup(dtype):
    ids = labels().astype(dtype)
    ids[0, 0] = 255
    out = visualize.colorize(ids, PALETTE, void=(9, 8, 7))
    assert out.dtype == np.uint8 and out.shape == (20, 30, 3)
    assert tuple(out[0, 0]) == (9, 8, 7)
    for y, x in [(3, 4), (19, 29), (7, 11)]:
        assert tuple(out[y, x]) == tuple(PALETTE[ids[y, x]])


def test_colorize_treats_ids_past_the_palette_and_negative_ids_as_void():
    out = visualize.colorize(np.array([[3, -1, 0]]), PALETTE)
    assert (out[0, :2] == 0).all() and tuple(out[0, 2]) == tuple(PALETTE[0])


def test_boundaries_lie_before_a_change():
    ids = np.zeros((4, 6), np.uint8)
    ids[:, 3:] = 1
    want = np.zeros((4, 6), bool)
    want[:, 2] = True
    np.testing.assert_array_equal(visualize.boundaries(ids), want)
    np.testing.assert_array_equal(visualize.boundaries(ids.T), want.T)


@given(st.floats(0, 1))
@settings(max_examples=10)
def test_overlay_mixes_by_alpha_and_leaves_void_alone(alpha):
    image, ids = picture(), labels()
    ids[5:9] = 255
    out = visualize.overlay(image, ids, PALETTE, alpha=alpha, outline=False)
    np.testing.assert_array_equal(out[5:9], image[5:9])
    inside = ids != 255
    want = (1 - alpha) * image[inside] + alpha * PALETTE[ids[inside]]
    assert np.abs(out[inside] - want).max() <= 0.5 + 1e-3


def test_overlay_outline_is_visible_between_classes_only():
    image = np.full((600, 40, 3), 90, np.uint8)
    ids = np.zeros((600, 40), np.uint8)
    ids[:, 20:] = 1
    plain = visualize.overlay(image, ids, PALETTE, outline=False)
    lined = visualize.overlay(image, ids, PALETTE)
    changed = (plain != lined).any(-1)
    assert changed[:, 19].all() and not changed[:, :17].any() and not changed[:, 23:].any()


def test_error_map_marks_exactly_the_wrong_valid_pixels():
    truth, prediction = labels(), labels()
    prediction[2:5, 3:9] = (truth[2:5, 3:9] + 1) % 3
    truth[4] = 255
    for image in (None, picture()):
        out = visualize.error_map(prediction, truth, image=image).astype(int)
        red = (out[..., 0] - out[..., 1] > 100) & (out[..., 0] - out[..., 2] > 80)
        want = np.zeros(truth.shape, bool)
        want[2:4, 3:9] = True
        np.testing.assert_array_equal(red, want)


def test_kinds_of_pictures():
    image, ids = picture(), labels()
    over = visualize.label_picture("overlay", image, ids, PALETTE, alpha=0.3)
    np.testing.assert_array_equal(over, visualize.overlay(image, ids, PALETTE, alpha=0.3))
    side = visualize.label_picture("side", image, ids, PALETTE, alpha=0.3)
    np.testing.assert_array_equal(side, np.concatenate([image, over], axis=1))
    np.testing.assert_array_equal(visualize.label_picture("color", image, ids, PALETTE), PALETTE[ids])
    assert visualize.label_picture("ids", image, ids, PALETTE) is ids
    np.testing.assert_array_equal(visualize.label_picture("ids", image, ids, PALETTE, decode=lambda x: x + 7), ids + 7)
    with pytest.raises(ValueError, match="choose one of overlay, side, color, ids"):
        visualize.label_picture("mask", image, ids, PALETTE)
