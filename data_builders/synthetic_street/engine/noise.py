"""Tileable fractal noise, the unevenness of all painted textures."""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


def fbm(rng: Rng, h: int, w: int, *, cells: int = 4, octaves: int = 5, falloff: float = 0.55) -> np.ndarray:
    """Returns tileable fractal noise, (h, w) float32, mean 0, standard deviation 1.

    cells: of the coarsest octave along h.
    octaves: number of octaves, each with twice as many cells.
    falloff: factor of the amplitude from octave to octave.
    """
    ny, nx = cells, max(1, round(cells * w / h))
    total = rng.standard_normal((ny, nx), dtype=np.float32)
    for octave in range(1, octaves):
        if 2 * max(ny, nx) > max(h, w):
            break
        ny, nx = 2 * ny, 2 * nx
        total = _enlarge(total, ny, nx) + falloff**octave * rng.standard_normal((ny, nx), dtype=np.float32)
    total = _enlarge(total, h, w)
    return (total - total.mean()) / (total.std() + 1e-6)


def _enlarge(grid: np.ndarray, h: int, w: int) -> np.ndarray:
    """Returns a smooth enlargement (h, w) of a grid that wraps around."""
    ny, nx = grid.shape
    grid = np.pad(grid, 2, mode="wrap")
    ys = ((np.arange(h, dtype=np.float32) + 0.5) * (ny / h) + 1.5)[:, None]
    xs = ((np.arange(w, dtype=np.float32) + 0.5) * (nx / w) + 1.5)[None]
    return cv2.remap(grid, np.broadcast_to(xs, (h, w)).copy(), np.broadcast_to(ys, (h, w)).copy(), cv2.INTER_CUBIC)
