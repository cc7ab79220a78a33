"""Train ids of the classes, and the colours that classes share."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.engine.noise import Rng

# Cityscapes train ids in their published order; 255 = not labelled.
(
    ROAD,
    SIDEWALK,
    BUILDING,
    WALL,
    FENCE,
    POLE,
    LIGHT,
    SIGN,
    VEGETATION,
    TERRAIN,
    SKY_CLASS,
    PERSON,
    RIDER,
    CAR,
    TRUCK,
    BUS,
    TRAIN,
    MOTORCYCLE,
    BICYCLE,
) = range(19)
VOID = 255

# colours of made things, shared by buildings, walls, vehicles and clothes, so that a colour does not reveal the class
_MADE = np.array(
    [
        (0.93, 0.92, 0.9),
        (0.86, 0.82, 0.72),
        (0.78, 0.68, 0.54),
        (0.7, 0.48, 0.38),
        (0.6, 0.3, 0.24),
        (0.5, 0.36, 0.28),
        (0.62, 0.62, 0.62),
        (0.45, 0.46, 0.48),
        (0.3, 0.31, 0.33),
        (0.16, 0.16, 0.18),
        (0.9, 0.8, 0.5),
        (0.86, 0.62, 0.28),
        (0.5, 0.56, 0.42),
        (0.34, 0.44, 0.3),
        (0.46, 0.56, 0.66),
        (0.26, 0.36, 0.54),
        (0.16, 0.24, 0.4),
        (0.7, 0.16, 0.16),
        (0.8, 0.72, 0.66),
        (0.66, 0.72, 0.72),
        (0.56, 0.5, 0.42),
        (0.4, 0.6, 0.6),
    ]
)
_LEAF = np.array(
    [
        (0.42, 0.56, 0.26),
        (0.32, 0.46, 0.22),
        (0.5, 0.58, 0.3),
        (0.26, 0.38, 0.24),
        (0.62, 0.6, 0.3),
        (0.74, 0.56, 0.24),
        (0.66, 0.4, 0.24),
        (0.38, 0.46, 0.36),
    ]
)
_EARTH = np.array([(0.44, 0.56, 0.28), (0.54, 0.58, 0.34), (0.64, 0.58, 0.38), (0.6, 0.5, 0.38), (0.36, 0.48, 0.26)])
_STONE = np.array([(0.5, 0.5, 0.51), (0.42, 0.42, 0.44), (0.58, 0.57, 0.55), (0.36, 0.36, 0.38), (0.54, 0.5, 0.46)])
_PAVING = np.array([(0.66, 0.65, 0.63), (0.56, 0.55, 0.54), (0.72, 0.66, 0.58), (0.64, 0.5, 0.44), (0.48, 0.48, 0.5)])
_PALETTES = {"made": _MADE, "leaf": _LEAF, "earth": _EARTH, "stone": _STONE, "paving": _PAVING}


def tint(rng: Rng, palette: str = "made", spread: float = 0.03) -> np.ndarray:
    """Returns a random colour near one of a palette, (3,) in 0..1."""
    options = _PALETTES[palette]
    colour = options[int(rng.integers(len(options)))] * rng.uniform(0.85, 1.12)
    spread = spread / 3 if palette in ("stone", "paving") else spread
    return np.clip(colour + rng.normal(0, spread, 3), 0.04, 1.0)
