"""Painted sprites: trees, fences, signs, lights, markings."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.art.surfaces import leaves, rgba
from data_builders.synthetic_street.engine.brush import Sprite, canvas, grain, oval, paint
from data_builders.synthetic_street.engine.noise import Rng, fbm


def tree(rng: Rng, h: int = 224, w: int = 192, *, trunk: bool = True) -> Sprite:
    """Paints a broad-leaved or conical tree, with or without its trunk."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / (h, w)[0]
    x = x - w / h / 2
    conical = rng.random() < 0.22
    centre, radius = 0.36, rng.uniform(0.3, 0.36)
    if conical:
        field = (0.05 + 0.34 * np.clip(y / 0.8, 0, 1) - np.abs(x) - np.clip((y - 0.8) * 4, 0, 1)) * 4
    else:
        stretch = rng.uniform(0.9, 1.25)
        field = (radius - np.hypot(x * stretch, y - centre)) * 5
    noise = fbm(rng, h, w, cells=4, octaves=5, falloff=0.65)
    rim = np.maximum(np.abs(x) - 0.37, 0.05 - y)  # the crown ends before the picture does, nowhere in a straight line
    crown = field + 0.42 * noise - 14 * np.maximum(rim, 0) > 0.12
    crown[:2] = crown[:, :2] = crown[:, -2:] = False
    image = leaves(rng, h, w)
    relief = (0.45 - y) * 70 - x * 60
    image[..., :3] = np.clip(image[..., :3] + relief[..., None], 25, 255)
    solid = crown.copy()
    if trunk:
        half = 0.018 + 0.012 * rng.random() + 0.02 * np.clip(y - 0.9, 0, 1)
        stem = (np.abs(x + 0.01 * np.sin(y * 14)) < half) & (y > 0.5)
        for _ in range(0 if conical else 3):  # boughs
            lean = rng.uniform(-0.9, 0.9)
            stem |= (np.abs(x - lean * (0.72 - y)) < 0.011) & (y > 0.42) & (y < 0.72)
        bark = 105 + 25 * np.sin(x * 400 + noise) + 14 * noise - 300 * x
        image[stem & ~crown] = rgba(bark[..., None] * np.array([1.0, 0.86, 0.7]), 0)[stem & ~crown]
        solid |= stem
    return image, solid


def bush(rng: Rng, h: int = 96, w: int = 160) -> Sprite:
    """Paints a shrub on the ground."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / (h, w)[0]
    x = (x - w / h / 2) / (w / h / 2)
    noise = fbm(rng, h, w, cells=4, octaves=5, falloff=0.65)
    solid = (0.8 - np.abs(x) ** 2.5 - (1 - y)) * 2 + 0.3 * noise > 0
    image = leaves(rng, h, w)
    image[..., :3] = np.clip(image[..., :3] + ((0.5 - y) * 60)[..., None], 20, 255)
    return image, solid


def hedge(rng: Rng, h: int = 96, w: int = 256) -> Sprite:
    """Paints a tileable strip of clipped leaves with an uneven upper edge."""
    image = leaves(rng, h, w)
    image[..., :3] = np.clip(image[..., :3] + np.linspace(20, -35, h)[:, None, None], 15, 255)
    edge = 6 + 4 * fbm(rng, 2, w, cells=2)[0]
    return image, np.arange(h)[:, None] > edge[None]


def fence(rng: Rng, h: int = 96, w: int = 192) -> Sprite:
    """Paints a tileable strip: pickets, iron bars, boards or a mesh between posts."""
    image, solid = canvas(h, w)
    kind = rng.integers(4)
    if kind == 0:  # pickets
        for x in range(0, w, 16):
            solid[6 + (x // 16) % 2 * 2 :, x + 2 : x + 12] = True
        solid[22:31] = solid[66:75] = True
    elif kind == 1:  # iron bars
        for x in range(0, w, 12):
            solid[3:, x + 3 : x + 8] = True
        solid[8:14] = solid[80:87] = True
    elif kind == 2:  # boards with gaps
        for y in range(4, h - 10, 22):
            solid[y : y + 18] = True
        solid[:, 4:14] = solid[:, 100:110] = True
    else:  # mesh
        yy, xx = np.mgrid[0:h, 0:w]
        solid[:] = ((xx + yy) % 12 < 4) | ((xx - yy) % 12 < 4)
        solid[:6] = solid[:, :8] = True
    image[..., :3] = np.clip(
        image[..., :3] + (12 * fbm(rng, h, w))[..., None] - np.linspace(0, 25, h)[:, None, None], 0, 255
    )
    return image, solid


def sign(rng: Rng, size: int = 72) -> Sprite:
    """Paints a traffic sign: prohibition, warning, yield, stop, mandatory, priority or panel."""
    s = canvas(size, size)
    red, blue, white, black = (198, 32, 38), (28, 84, 176), (240, 240, 236), (25, 25, 25)
    kind = int(rng.integers(7))

    def corners(n, radius, turn):
        angles = turn + 2 * np.pi * np.arange(n) / n
        return np.stack([0.5 + radius * np.sin(angles), 0.5 - radius * np.cos(angles)], axis=-1)

    if kind == 0:
        oval(s, 0.5, 0.5, 0.48, 0.48, red, 0)
        oval(s, 0.5, 0.5, 0.34, 0.34, white, 0)
        for x in (0.36, 0.55):
            paint(s, [(x, 0.36), (x + 0.12, 0.36), (x + 0.12, 0.64), (x, 0.64)], black, 0)
    elif kind in (1, 2):
        turn = 0.0 if kind == 1 else np.pi
        paint(s, corners(3, 0.5, turn), red, 0)
        paint(s, corners(3, 0.31, turn), white, 0)
        if kind == 1:
            paint(s, [(0.46, 0.38), (0.54, 0.38), (0.52, 0.6), (0.48, 0.6)], black, 0)
    elif kind == 3:
        paint(s, corners(8, 0.5, np.pi / 8), white, 0)
        paint(s, corners(8, 0.45, np.pi / 8), red, 0)
        paint(s, [(0.2, 0.42), (0.8, 0.42), (0.8, 0.58), (0.2, 0.58)], white, 0)
    elif kind == 4:
        oval(s, 0.5, 0.5, 0.48, 0.48, blue, 0)
        paint(
            s,
            [(0.5, 0.16), (0.72, 0.45), (0.58, 0.45), (0.58, 0.82), (0.42, 0.82), (0.42, 0.45), (0.28, 0.45)],
            white,
            0,
        )
    elif kind == 5:
        paint(s, corners(4, 0.5, 0), white, 0)
        paint(s, corners(4, 0.38, 0), (240, 190, 30), 0)
    else:
        colour = [blue, (30, 120, 70), white, (230, 190, 40)][int(rng.integers(4))]
        ink = white if sum(colour) < 500 else black
        paint(s, [(0.02, 0.1), (0.98, 0.1), (0.98, 0.9), (0.02, 0.9)], colour, 0)
        for y in (0.25, 0.45, 0.65):
            paint(s, [(0.14, y), (0.3 + 0.55 * rng.random(), y), (0.55, y + 0.1), (0.14, y + 0.1)], ink, 0)
    return grain(rng, s, 3)


def traffic_light(rng: Rng, h: int = 120, w: int = 48) -> Sprite:
    """Paints a traffic light: three lamps in a housing, one of them lit."""
    s = canvas(h, w)
    shell = (34, 36, 38) if rng.random() < 0.7 else (205, 165, 40)
    paint(s, [(0.08, 0.02), (0.92, 0.02), (0.92, 0.98), (0.08, 0.98)], shell, 0)
    lit = int(rng.choice(3, p=[0.45, 0.1, 0.45]))
    for k, colour in enumerate([(255, 60, 45), (255, 190, 50), (80, 255, 150)]):
        on = colour if k == lit else tuple(c // 5 for c in colour)
        oval(s, 0.5, 0.19 + 0.31 * k, 0.32, 0.128, (10, 10, 10), 0)
        oval(s, 0.5, 0.19 + 0.31 * k, 0.27, 0.11, on, 0)
    return s


def stripes(rng: Rng, h: int = 64, w: int = 128) -> Sprite:
    """Paints a zebra crossing: worn white bars across the road, holes between them."""
    image, solid = canvas(h, w)
    image[:] = (238, 236, 230, 0)
    solid[:] = (np.arange(w) % 16 < 9)[None]
    solid &= fbm(rng, h, w, cells=8) < 1.6
    return image, solid


def arrow(rng: Rng, h: int = 96, w: int = 48) -> Sprite:
    """Paints a turn or straight-on arrow on the road."""
    s = canvas(h, w)
    paint(s, [(0.5, 0), (0.85, 0.3), (0.6, 0.3), (0.6, 1), (0.4, 1), (0.4, 0.3), (0.15, 0.3)], (238, 236, 230), 0)
    if rng.random() < 0.5:
        paint(
            s,
            [(0.6, 0.5), (0.8, 0.45), (0.8, 0.38), (1, 0.52), (0.8, 0.66), (0.8, 0.58), (0.6, 0.62)],
            (238, 236, 230),
            0,
        )
    return s


def bonnet(rng: Rng, h: int = 64, w: int = 256) -> Sprite:
    """Paints the bonnet of the camera's vehicle: an arch with a reflection of the sky, a crease and a wiper."""
    s = canvas(h, w)
    rise = rng.uniform(0.35, 0.8)
    x = np.linspace(0, 1, 60)
    y = 1 - (1 - np.abs(2 * x - 1) ** rng.uniform(2.5, 5)) * rise - (0.92 - rise) * (x > 0) * (x < 1)
    paint(s, [*zip(x, y), (1, 1), (0, 1)], (205, 205, 205))
    shade = np.linspace(45, -150, h)[:, None] + 14 * np.cos((np.arange(w) / w - 0.5) * 9)[None]
    s[0][..., :3] = np.clip(s[0][..., :3] + shade[..., None], 8, 255)
    return s
