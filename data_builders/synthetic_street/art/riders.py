"""Painted sprites of people and two-wheelers, in parts that move against each other."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.engine.brush import Sprite, canvas, grain, oval, paint
from data_builders.synthetic_street.engine.noise import Rng

_SKIN = [(236, 198, 170), (214, 166, 130), (168, 118, 84), (104, 70, 52)]
_HAIR = [(38, 28, 24), (84, 58, 38), (176, 140, 86), (128, 126, 124), (60, 36, 28)]


def torso(rng: Rng, h: int = 104, w: int = 72, *, view: str, helmet: bool = False) -> Sprite:
    """Paints head, shoulders and trunk down to the hip; shirt and coat have the tint. view: front, back or side."""
    s = canvas(h, w)
    skin, hair = _SKIN[int(rng.integers(4))], _HAIR[int(rng.integers(5))]
    half = 0.2 if view == "side" else rng.uniform(0.3, 0.36)
    coat = rng.random() < 0.4
    hip = half * (1.1 if coat else 0.82)
    paint(
        s,
        [
            (0.5 - half * 0.55, 0.285),
            (0.5 + half * 0.55, 0.285),
            (0.5 + half, 0.37),
            (0.5 + hip, 1.0),
            (0.5 - hip, 1.0),
            (0.5 - half, 0.37),
        ],
    )
    paint(s, [(0.43, 0.2), (0.57, 0.2), (0.57, 0.31), (0.43, 0.31)], skin, 0)
    oval(s, 0.5, 0.14, 0.145, 0.128, skin, 0)
    if view == "back":
        oval(s, 0.5, 0.125, 0.155, 0.125, hair, 0)
    elif view == "front":
        oval(s, 0.5, 0.065, 0.15, 0.06, hair, 0)
        for x in (0.44, 0.56):
            oval(s, x, 0.14, 0.015, 0.01, (30, 25, 25), 0)
    else:
        oval(s, 0.46, 0.1, 0.14, 0.1, hair, 0)
    if helmet:
        tone = rng.uniform(30, 235, 3)
        oval(s, 0.5, 0.085, 0.17, 0.09, tone, 0)
    if view == "front" and rng.random() < 0.6:  # open jacket
        paint(s, [(0.45, 0.3), (0.55, 0.3), (0.53, 0.95), (0.47, 0.95)], rng.uniform(40, 230, 3), 0)
    if view != "front" and rng.random() < 0.35:  # rucksack
        paint(s, [(0.34, 0.38), (0.66, 0.38), (0.68, 0.72), (0.32, 0.72)], rng.uniform(30, 190, 3), 0)
    if not coat:
        paint(s, [(0.5 - hip, 0.96), (0.5 + hip, 0.96), (0.5 + hip, 1), (0.5 - hip, 1)], (50, 42, 38), 0)
    return grain(rng, s, 9)


def limb(rng: Rng, h: int = 104, w: int = 28, *, leg: bool) -> Sprite:
    """Paints a leg with its shoe, or an arm with its hand, hanging from the upper edge."""
    s = canvas(h, w)
    if leg:
        paint(s, [(0.08, 0), (0.92, 0), (0.72, 0.5), (0.68, 0.93), (0.28, 0.93), (0.26, 0.5)])
        paint(s, [(0.22, 0.92), (0.74, 0.92), (0.96, 1), (0.2, 1)], rng.uniform(20, 120, 3), 0)
    else:
        paint(s, [(0.2, 0), (0.8, 0), (0.75, 0.85), (0.3, 0.85)])
        oval(s, 0.52, 0.9, 0.22, 0.08, _SKIN[int(rng.integers(4))], 0)
    return grain(rng, s, 7)


def bicycle(rng: Rng, h: int = 104, w: int = 176) -> Sprite:
    """Paints a bicycle from the side, facing right: two spoked wheels, frame, saddle, handlebar."""
    s = canvas(h, w)
    for cx in (0.2, 0.8):
        oval(s, cx, 0.68, 0.18, 0.305, (28, 28, 28), 0, width=5)
        for a in np.arange(0, np.pi, np.pi / 4):
            dx, dy = 0.17 * np.cos(a), 0.29 * np.sin(a)
            paint(s, [(cx - dx, 0.68 - dy), (cx + dx, 0.68 + dy)], (120, 120, 122), 0, width=1)
    a, b, c, d, e = (0.2, 0.68), (0.44, 0.7), (0.38, 0.24), (0.7, 0.26), (0.8, 0.68)
    for p, q in ((a, b), (a, c), (b, c), (c, d), (b, d), (d, e)):
        paint(s, [p, q], width=5)
    paint(s, [(0.31, 0.17), (0.45, 0.17), (0.45, 0.23), (0.33, 0.23)], (35, 30, 28), 0)
    paint(s, [d, (0.68, 0.1), (0.78, 0.12)], (40, 40, 40), 0, width=5)
    return s


def bicycle_rear(rng: Rng, h: int = 104, w: int = 64) -> Sprite:
    """Paints a bicycle from behind or in front: tyre, fork, saddle or bar."""
    s = canvas(h, w)
    paint(s, [(0.43, 0.36), (0.57, 0.36), (0.57, 1.0), (0.43, 1.0)], (30, 30, 30), 0)
    paint(s, [(0.34, 0.2), (0.66, 0.2), (0.62, 0.62), (0.38, 0.62)])
    paint(s, [(0.04, 0.1), (0.96, 0.1), (0.96, 0.2), (0.04, 0.2)], (50, 50, 52), 0)
    oval(s, 0.5, 0.45, 0.1, 0.05, (210, 40, 36), 0)
    return s


def motorcycle(rng: Rng, h: int = 112, w: int = 192) -> Sprite:
    """Paints a motorcycle from the side, facing right: thick wheels, tank, engine, seat, exhaust, windscreen."""
    s = canvas(h, w)
    for cx in (0.17, 0.82):
        oval(s, cx, 0.73, 0.155, 0.265, (24, 24, 25), 0)
        oval(s, cx, 0.73, 0.085, 0.145, (150, 150, 152), 0)
        oval(s, cx, 0.73, 0.03, 0.05, (40, 40, 42), 0)
    paint(s, [(0.28, 0.5), (0.66, 0.48), (0.62, 0.84), (0.34, 0.86)], (74, 76, 80), 0)
    for y in (0.56, 0.64, 0.72):
        paint(s, [(0.4, y), (0.58, y)], (165, 165, 168), 0, width=2)
    paint(s, [(0.4, 0.3), (0.66, 0.26), (0.7, 0.5), (0.42, 0.52)])
    paint(s, [(0.06, 0.36), (0.42, 0.34), (0.44, 0.46), (0.12, 0.48)], (32, 28, 27), 0)
    paint(s, [(0.02, 0.4), (0.16, 0.36), (0.24, 0.56), (0.1, 0.56)])
    paint(s, [(0.66, 0.2), (0.78, 0.24), (0.86, 0.5), (0.7, 0.5)])
    paint(s, [(0.7, 0.02), (0.75, 0.02), (0.8, 0.24), (0.7, 0.22)], (110, 130, 140), 0)
    paint(s, [(0.75, 0.4), (0.82, 0.74)], (140, 140, 140), 0, width=6)
    paint(s, [(0.05, 0.78), (0.4, 0.8), (0.4, 0.87), (0.05, 0.85)], (170, 168, 160), 0)
    return grain(rng, s, 5)


def motorcycle_rear(rng: Rng, h: int = 112, w: int = 96) -> Sprite:
    """Paints a motorcycle from behind or in front: wide tyre, tail with lamp, mirrors."""
    s = canvas(h, w)
    paint(s, [(0.39, 0.5), (0.61, 0.5), (0.61, 1.0), (0.39, 1.0)], (24, 24, 25), 0)
    paint(s, [(0.26, 0.3), (0.74, 0.3), (0.68, 0.7), (0.32, 0.7)])
    paint(s, [(0.36, 0.38), (0.64, 0.38), (0.62, 0.46), (0.38, 0.46)], (215, 36, 34), 0)
    paint(s, [(0.38, 0.54), (0.62, 0.54), (0.62, 0.64), (0.38, 0.64)], (235, 232, 220), 0)
    paint(s, [(0.02, 0.16), (0.98, 0.16), (0.98, 0.24), (0.02, 0.24)], (45, 45, 47), 0)
    for x in (0.06, 0.94):
        oval(s, x, 0.09, 0.06, 0.05, (60, 62, 66), 0)
    return grain(rng, s, 5)
