"""Shares in colours: a scale that grows in lightness by even steps, and its legend."""

import numpy as np
import pytest

from segjax.visualize import share_legend, share_to_color


def lightness(colours):
    """CIE L* of sRGB colours (n, 3)."""
    x = colours / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_equal_steps_are_equally_visible():
    found = lightness(share_to_color(np.linspace(0, 1, 256)[None])[0])
    assert found[0] < 1 and found[-1] > 97 and (np.diff(found) > -0.5).all()
    np.testing.assert_allclose(
        found, np.linspace(found[0], found[-1], 256), atol=6
    )  # even in CAM02-UCS, nearly so in L*


def test_shares_outside_have_the_colours_of_the_ends():
    ends = share_to_color(np.array([[-2.0, 0, 1, 7]]))
    np.testing.assert_array_equal(ends[0, 0], ends[0, 1])
    np.testing.assert_array_equal(ends[0, 2], ends[0, 3])
    assert ends.dtype == np.uint8 and ends.shape == (1, 4, 3)


@pytest.mark.parametrize("width", [2, 64, 300, 2000])
def test_the_legend_shows_the_whole_scale_where_it_fits(width):
    picture = share_legend("entropy / log(classes)", width=width)
    assert picture.shape[1] == width and picture.dtype == np.uint8
    if width >= 300:
        ends = share_to_color(np.array([[0.0, 1.0]]))[0]
        assert all((picture == colour).all(-1).any() for colour in ends)
