"""All textures of a scene in one image with its mipmaps, so that a frame is shaded by a single cv2.remap."""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 5  # mipmaps, each half the size of the one before
_GUTTER = 16  # texels around every texture: bilinear sampling at the coarsest level stays inside
_WIDTH = 2048


class Atlas:
    """Textures by name: `add` all of them, then `pack` once.

    A texture is rgba (h, w, 4) uint8: red, green, blue, and the share of the object's tint (0 = the painted colour,
    255 = multiplied by the tint). Rays pass it at the texels whose `solid`, (h, w) bool, is false.
    """

    def __init__(self):
        self._parts: list[tuple[np.ndarray, np.ndarray | None, bool]] = []
        self._names: dict[str, list[int]] = {}

    def add(self, name: str, rgba: np.ndarray, solid: np.ndarray | None = None, *, tile: bool = False) -> int:
        """Adds a texture and returns its index.

        name: may be shared by several textures.
        rgba: (h, w, 4) uint8.
        solid: (h, w) bool, None = all.
        tile: whether it wraps around.
        """
        self._parts.append((_bleed(rgba, solid) if solid is not None else rgba, solid, tile))
        self._names.setdefault(name, []).append(len(self._parts) - 1)
        return len(self._parts) - 1

    def names(self, name: str) -> list[int]:
        """Returns the indices of all textures with this name."""
        return self._names[name]

    def pick(self, rng: np.random.Generator, name: str) -> int:
        """Returns the index of a random texture with this name."""
        options = self._names[name]
        return options[int(rng.integers(len(options)))]

    def size(self, index: int) -> tuple[int, int]:
        """Returns the size (h, w) of a texture, in texels."""
        return self._parts[index][0].shape[:2]

    def pack(self) -> Atlas:
        """Places the textures in rows, builds the mipmaps and returns itself.

        It sets image (rows, 2048, 4), all levels below each other; level_row (LEVELS,), the first row of each; solid
        (rows of level 0, 2048); rect (n, 4), x, y, w, h of each texture; cutout (n,), whether it has holes.
        """
        order = sorted(range(len(self._parts)), key=lambda i: -self._parts[i][0].shape[0])
        x = y = shelf = 0
        places = {}
        for i in order:
            h, w = (s + 2 * _GUTTER for s in self._parts[i][0].shape[:2])
            if x + w > _WIDTH:
                x, y, shelf = 0, y + shelf, 0
            places[i] = (x, y)
            x, shelf = x + w, max(shelf, h)
        height = -(-(y + shelf) // 2 ** (LEVELS - 1)) * 2 ** (LEVELS - 1)
        level = np.zeros((height, _WIDTH, 4), np.uint8)
        self.solid = np.ones((height, _WIDTH), bool)
        self.rect = np.zeros((len(self._parts), 4))  # x, y, w, h of the texture without its gutter
        self.cutout = np.array([solid is not None for _, solid, _ in self._parts])
        for i, (rgba, solid, tile) in enumerate(self._parts):
            x, y = places[i]
            h, w = rgba.shape[:2]
            border = cv2.BORDER_WRAP if tile else cv2.BORDER_REPLICATE
            padded = cv2.copyMakeBorder(rgba, _GUTTER, _GUTTER, _GUTTER, _GUTTER, border)
            level[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
            self.rect[i] = x + _GUTTER, y + _GUTTER, w, h
            if solid is not None:
                self.solid[y + _GUTTER : y + _GUTTER + h, x + _GUTTER : x + _GUTTER + w] = solid
        levels, self.level_row = [level], [0.0]
        for _ in range(LEVELS - 1):
            self.level_row.append(self.level_row[-1] + level.shape[0])
            level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
            levels.append(cv2.copyMakeBorder(level, 0, 0, 0, _WIDTH - level.shape[1], cv2.BORDER_CONSTANT))
        self.image = np.concatenate(levels)
        self.level_row = np.array(self.level_row, np.float32)
        return self


def _bleed(rgba: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """Returns the texture with holes filled by the colours around them, so that mipmaps have no dark fringe."""
    weight = solid.astype(np.float32)
    colour = rgba.astype(np.float32) * weight[..., None]
    out, known = rgba.copy(), solid.copy()
    h, w = solid.shape
    for factor in (2, 4, 8, 16, 32, 64, 128):
        small = cv2.resize(colour, (-(-w // factor), -(-h // factor)), interpolation=cv2.INTER_AREA)
        share = cv2.resize(weight, (-(-w // factor), -(-h // factor)), interpolation=cv2.INTER_AREA)
        fill = ~known & (cv2.resize(share, (w, h), interpolation=cv2.INTER_NEAREST) > 0.02)
        mean = small / np.maximum(share, 1e-6)[..., None]
        out[fill] = np.clip(cv2.resize(mean, (w, h), interpolation=cv2.INTER_NEAREST)[fill], 0, 255)
        known |= fill
        if known.all():
            break
    return out
