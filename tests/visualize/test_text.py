"""Text in pictures."""

import numpy as np

from segjax import visualize


def test_text_is_drawn_and_cut_at_the_edge():
    canvas = np.full((20, 60, 3), 255, np.uint8)
    width = visualize.write(canvas, "Ägypten 123", 2, 1, size=12)
    assert 40 < width < 120 and canvas.min() < 120
    before = canvas.copy()
    visualize.write(canvas, "outside", 200, 200, size=12)
    np.testing.assert_array_equal(canvas, before)
