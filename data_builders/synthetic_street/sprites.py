"""Painted cut-outs: trees, fences, signs, people, bicycles: (rgba uint8 (h, w, 4), solid bool (h, w))."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_street.surfaces import Rng, fbm, leaves, rgba

Sprite = tuple[np.ndarray, np.ndarray]


def canvas(h: int, w: int) -> Sprite:
    """Nothing yet: grey 200, fully tinted, no solid texel."""
    return np.full((h, w, 4), (200, 200, 200, 255), np.uint8), np.zeros((h, w), bool)


def paint(sprite: Sprite, points, colour=(200, 200, 200), tint: int = 255, *, width: int = 0) -> None:
    """Fills a polygon, or draws it as an open line of the given width; points (n, 2) as shares of width and height."""
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
    """Fills an ellipse (or draws its outline, width in texels); centre and radii as shares of width and height."""
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
    """Adds cloth-like unevenness and a soft light from the upper left."""
    image, solid = sprite
    h, w = solid.shape
    relief = amount * fbm(rng, h, w, cells=3) + np.linspace(9, -9, w)[None] + np.linspace(6, -12, h)[:, None]
    image[..., :3] = np.clip(image[..., :3] + relief[..., None], 0, 255)
    return sprite


def tree(rng: Rng, h: int = 224, w: int = 192, *, trunk: bool = True) -> Sprite:
    """Broad-leaved or conical tree; the trunk belongs to it."""
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
    """A shrub that stands on the ground."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / (h, w)[0]
    x = (x - w / h / 2) / (w / h / 2)
    noise = fbm(rng, h, w, cells=4, octaves=5, falloff=0.65)
    solid = (0.8 - np.abs(x) ** 2.5 - (1 - y)) * 2 + 0.3 * noise > 0
    image = leaves(rng, h, w)
    image[..., :3] = np.clip(image[..., :3] + ((0.5 - y) * 60)[..., None], 20, 255)
    return image, solid


def hedge(rng: Rng, h: int = 96, w: int = 256) -> Sprite:
    """A tileable strip of clipped leaves with an uneven upper edge."""
    image = leaves(rng, h, w)
    image[..., :3] = np.clip(image[..., :3] + np.linspace(20, -35, h)[:, None, None], 15, 255)
    edge = 6 + 4 * fbm(rng, 2, w, cells=2)[0]
    return image, np.arange(h)[:, None] > edge[None]


def fence(rng: Rng, h: int = 96, w: int = 192) -> Sprite:
    """A tileable strip: pickets, iron bars, boards or a mesh between posts."""
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
    """A traffic sign: prohibition, warning, yield, stop, mandatory, priority, panel."""
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
    """Three lamps in a housing; one of them is lit."""
    s = canvas(h, w)
    shell = (34, 36, 38) if rng.random() < 0.7 else (205, 165, 40)
    paint(s, [(0.08, 0.02), (0.92, 0.02), (0.92, 0.98), (0.08, 0.98)], shell, 0)
    lit = int(rng.choice(3, p=[0.45, 0.1, 0.45]))
    for k, colour in enumerate([(255, 60, 45), (255, 190, 50), (80, 255, 150)]):
        on = colour if k == lit else tuple(c // 5 for c in colour)
        oval(s, 0.5, 0.19 + 0.31 * k, 0.32, 0.128, (10, 10, 10), 0)
        oval(s, 0.5, 0.19 + 0.31 * k, 0.27, 0.11, on, 0)
    return s


_SKIN = [(236, 198, 170), (214, 166, 130), (168, 118, 84), (104, 70, 52)]
_HAIR = [(38, 28, 24), (84, 58, 38), (176, 140, 86), (128, 126, 124), (60, 36, 28)]


def torso(rng: Rng, h: int = 104, w: int = 72, *, view: str, helmet: bool = False) -> Sprite:
    """Head, shoulders and trunk down to the hip; view is front, back or side. Shirt and coat carry the tint."""
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
    """A leg with its shoe, or an arm with its hand; hangs from the upper edge."""
    s = canvas(h, w)
    if leg:
        paint(s, [(0.08, 0), (0.92, 0), (0.72, 0.5), (0.68, 0.93), (0.28, 0.93), (0.26, 0.5)])
        paint(s, [(0.22, 0.92), (0.74, 0.92), (0.96, 1), (0.2, 1)], rng.uniform(20, 120, 3), 0)
    else:
        paint(s, [(0.2, 0), (0.8, 0), (0.75, 0.85), (0.3, 0.85)])
        oval(s, 0.52, 0.9, 0.22, 0.08, _SKIN[int(rng.integers(4))], 0)
    return grain(rng, s, 7)


def bicycle(rng: Rng, h: int = 104, w: int = 176) -> Sprite:
    """Side view: two spoked wheels, frame, saddle, handlebar; faces right."""
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
    """Seen from behind or in front: tyre, fork, saddle or bar."""
    s = canvas(h, w)
    paint(s, [(0.43, 0.36), (0.57, 0.36), (0.57, 1.0), (0.43, 1.0)], (30, 30, 30), 0)
    paint(s, [(0.34, 0.2), (0.66, 0.2), (0.62, 0.62), (0.38, 0.62)])
    paint(s, [(0.04, 0.1), (0.96, 0.1), (0.96, 0.2), (0.04, 0.2)], (50, 50, 52), 0)
    oval(s, 0.5, 0.45, 0.1, 0.05, (210, 40, 36), 0)
    return s


def motorcycle(rng: Rng, h: int = 112, w: int = 192) -> Sprite:
    """Side view: thick wheels, tank, engine, seat, exhaust, windscreen; faces right."""
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
    """Seen from behind or in front: wide tyre, tail with lamp, mirrors."""
    s = canvas(h, w)
    paint(s, [(0.39, 0.5), (0.61, 0.5), (0.61, 1.0), (0.39, 1.0)], (24, 24, 25), 0)
    paint(s, [(0.26, 0.3), (0.74, 0.3), (0.68, 0.7), (0.32, 0.7)])
    paint(s, [(0.36, 0.38), (0.64, 0.38), (0.62, 0.46), (0.38, 0.46)], (215, 36, 34), 0)
    paint(s, [(0.38, 0.54), (0.62, 0.54), (0.62, 0.64), (0.38, 0.64)], (235, 232, 220), 0)
    paint(s, [(0.02, 0.16), (0.98, 0.16), (0.98, 0.24), (0.02, 0.24)], (45, 45, 47), 0)
    for x in (0.06, 0.94):
        oval(s, x, 0.09, 0.06, 0.05, (60, 62, 66), 0)
    return grain(rng, s, 5)


def stripes(rng: Rng, h: int = 64, w: int = 128) -> Sprite:
    """A zebra crossing: worn white bars across the road, holes between them."""
    image, solid = canvas(h, w)
    image[:] = (238, 236, 230, 0)
    solid[:] = (np.arange(w) % 16 < 9)[None]
    solid &= fbm(rng, h, w, cells=8) < 1.6
    return image, solid


def arrow(rng: Rng, h: int = 96, w: int = 48) -> Sprite:
    """A turn or straight-on arrow on the road."""
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
    """The front of the own vehicle as its camera sees it: an arch with a sky reflection, a crease and a wiper."""
    s = canvas(h, w)
    rise = rng.uniform(0.35, 0.8)
    x = np.linspace(0, 1, 60)
    y = 1 - (1 - np.abs(2 * x - 1) ** rng.uniform(2.5, 5)) * rise - (0.92 - rise) * (x > 0) * (x < 1)
    paint(s, [*zip(x, y), (1, 1), (0, 1)], (205, 205, 205))
    shade = np.linspace(45, -150, h)[:, None] + 14 * np.cos((np.arange(w) / w - 0.5) * 9)[None]
    s[0][..., :3] = np.clip(s[0][..., :3] + shade[..., None], 8, 255)
    return s
