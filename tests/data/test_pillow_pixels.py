"""Colours of Pillow images equal Pillow's own conversion, by each way of access."""

import numpy as np
import pytest
from PIL import Image

from segjax.data import pillow_pixels
from segjax.data.pillow_pixels import rgb_array


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 257), (5000, 1500)])
def test_rgb_array(size):
    image = Image.effect_noise(size, 90).convert("RGB")
    image.paste((250, 0, 9), (0, 0, 1, 1))
    found = rgb_array(image)
    np.testing.assert_array_equal(found, np.asarray(image))
    np.testing.assert_array_equal(pillow_pixels._in_strips(image), np.asarray(image))
    del image
    found += 1  # is its own memory
    assert found[0, 0].tolist() == [251, 1, 10]


def test_an_older_pillow(monkeypatch):
    monkeypatch.delattr(Image.Image, "__arrow_c_array__", raising=False)
    image = Image.new("RGB", (9, 300), (1, 2, 3))
    np.testing.assert_array_equal(rgb_array(image), np.asarray(image))
