"""A tiny video of a bright square that moves to the right, its labels, and its exact flow."""

import numpy as np

from segjax.data import LabelMap

MAP = LabelMap.identity(("dark", "bright"), np.array([(10, 20, 30), (200, 210, 220)], np.uint8))


def frame(number, size=(32, 48)):
    """A bright square that moves 2 pixels to the right per frame over a dark gradient."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 1] = np.linspace(0, 60, size[1]).astype(np.uint8)
    image[10:22, 8 + 2 * number : 20 + 2 * number] = (240, 200, 180)
    return image


def mask(number, size=(32, 48)):
    found = np.zeros(size, np.uint8)
    found[10:22, 8 + 2 * number : 20 + 2 * number] = 1
    return found


def follow_the_square(a, b):
    """Flow of a camera that does so."""
    return np.stack([np.full((*x.image.shape[:2], 2), (2.0 * (y.frame - x.frame), 0)) for x, y in zip(a, b)])
