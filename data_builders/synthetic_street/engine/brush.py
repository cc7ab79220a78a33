"""Strokes for painting sprites, in shares of their size; a sprite is (rgba (h, w, 4) uint8, solid (h, w) bool)."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_street.engine.noise import Rng, fbm

Sprite = tuple[np.ndarray, np.ndarray]


def canvas(h: int, w: int) -> Sprite:
    """Returns an empty sprite: grey 200, fully tinted, no solid texel."""
    return np.full((h, w, 4), (200, 200, 200, 255), np.uint8), np.zeros((h, w), bool)


def paint(sprite: Sprite, points, colour=(200, 200, 200), tint: int = 255, *, width: int = 0) -> None:
    """Fills a polygon, or draws it as an open line if width > 0; points: (n, 2), shares of width and height."""
    image, solid = sprite
    h, w = solid.shape
    shape = np.zeros((h, w), np.uint8)
    xy = np.round(np.asarray(points, np.float64) * (w, h)).astype(np.int32)
    if width:
        cv2.polylines(shape, [xy], False, 1, width)
    else:
        cv2.fillPoly(shape, [xy], 1)
    _put(sprite, shape > 0, colour, tint)


def oval(
    sprite: Sprite,
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    colour=(200, 200, 200),
    tint: int = 255,
    *,
    width: int = -1,
):
    """Fills an ellipse, or draws its outline; centre and radii: shares of width and height. width: in texels."""
    h, w = sprite[1].shape
    shape = np.zeros((h, w), np.uint8)
    cv2.ellipse(
        shape, (round(cx * w), round(cy * h)), (max(1, round(rx * w)), max(1, round(ry * h))), 0, 0, 360, 1, width
    )
    _put(sprite, shape > 0, colour, tint)


def _put(sprite: Sprite, where: np.ndarray, colour, tint: int) -> None:
    sprite[0][where] = (*[int(c) for c in colour], tint)
    sprite[1][where] = True


def grain(rng: Rng, sprite: Sprite, amount: float = 7.0) -> Sprite:
    """Returns the sprite with uneven grey, like cloth, and a soft light from the upper left."""
    image, solid = sprite
    h, w = solid.shape
    relief = amount * fbm(rng, h, w, cells=3) + np.linspace(9, -9, w)[None] + np.linspace(6, -12, h)[:, None]
    image[..., :3] = np.clip(image[..., :3] + relief[..., None], 0, 255)
    return sprite
