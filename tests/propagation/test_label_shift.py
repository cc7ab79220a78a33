"""Labels moved by smooth random fields."""

import numpy as np
import pytest

from segjax.propagation.label_shift import shift_label


@pytest.mark.parametrize("pixels", (1.0, 2.0, 4.0))
def test_outlines_move_by_so_many_pixels(pixels):
    """The outline of a vertical stripe pattern moves by the field's x, whose root mean square is pixels / sqrt(2)."""
    label = np.zeros((256, 320), np.uint8)
    label[:, 160:] = 1
    moved = [int((label != shift_label(label, pixels, f"frame {n}")).sum()) for n in range(40)]
    along_x = np.rint(np.random.default_rng(0).normal(0, pixels / np.sqrt(2), 10**5))
    assert np.mean(moved) == pytest.approx(256 * np.abs(along_x).mean(), rel=0.15)


def test_a_key_is_a_field_and_classes_stay():
    rng = np.random.default_rng(0)
    label = rng.choice(np.array([0, 3, 255], np.uint8), (12, 20)).repeat(8, 0).repeat(8, 1)
    one, same, other = (shift_label(label, 2.0, key) for key in ("a", "a", "b"))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert one.dtype == np.uint8 and set(np.unique(one)) <= {0, 3, 255}
    assert 0.6 < (one == label).mean() < 1
