"""Painted surfaces: asphalt, pavement, grass, facades, walls, leaves, sky. Each returns rgba uint8 (h, w, 4)."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_street.engine.noise import Rng, fbm


def rgba(colour: np.ndarray, tint: np.ndarray | float) -> np.ndarray:
    """Returns a texture (h, w, 4) uint8.

    colour: (h, w, 3), or grey (h, w), in 0..255.
    tint: share of the tint, (h, w) or scalar, in 0..255.
    """
    if colour.ndim == 2:
        colour = np.repeat(colour[..., None], 3, axis=-1)
    share = np.broadcast_to(np.asarray(tint, np.float32), colour.shape[:2])[..., None]
    return np.clip(np.concatenate([colour, share], axis=-1), 0, 255).astype(np.uint8)


def asphalt(rng: Rng, h: int, w: int, *, lanes: int = 0) -> np.ndarray:
    """Paints a road surface across (w) and along (h); with lane markings, edge lines and wheel tracks if lanes > 0."""
    grey = 205 + 9 * fbm(rng, h, w, cells=3) + 7 * rng.standard_normal((h, w), dtype=np.float32)
    for _ in range(int(rng.integers(2, 6))):  # repaired patches
        x, y = rng.integers(0, w), rng.integers(0, h)
        cv2.rectangle(
            grey,
            (int(x), int(y)),
            (int(x + rng.integers(20, w // 3)), int(y + rng.integers(20, h // 3))),
            float(205 + rng.normal(0, 16)),
            -1,
        )
    grey += 6 * rng.standard_normal((h, w), dtype=np.float32)
    for _ in range(int(rng.integers(2, 7))):  # cracks
        start = rng.random(2) * (w, h)
        steps = np.cumsum(rng.normal(0, 1, (14, 2)) * (6, 9) + rng.normal(0, 6, 2), axis=0)
        cv2.polylines(grey, [(start + steps).astype(np.int32)], False, 150.0, 1, cv2.LINE_AA)
    share = np.full((h, w), 255, np.float32)
    out = rgba(grey, share)
    if not lanes:
        return out
    tracks = np.cos((np.arange(w) / w * lanes * 2) * 2 * np.pi) * 5  # worn wheel tracks
    out[..., :3] = np.clip(out[..., :3] + tracks[None, :, None], 0, 255)
    paint = np.zeros((h, w), np.float32)
    lane = w / lanes
    dash = rng.choice([0.3, 0.4, 0.5])
    for k in range(1, lanes):
        x = round(k * lane)
        whole = lanes % 2 == 0 and k == lanes // 2 and rng.random() < 0.35
        for y0 in (0, h // 2):
            y1 = y0 + (h // 2 if whole else int(h // 2 * dash))
            cv2.rectangle(paint, (x - 3, y0), (x + 3, y1), 1.0, -1)
    if rng.random() < 0.6:
        for x in (12, w - 13):
            cv2.rectangle(paint, (x - 3, 0), (x + 3, h), 1.0, -1)
    paint *= np.clip(0.85 + 0.22 * fbm(rng, h, w, cells=12), 0.25, 1)  # worn paint
    white = np.array([245, 242, 235] if rng.random() < 0.85 else [240, 205, 90], np.float32)
    out[..., :3] = out[..., :3] * (1 - paint[..., None]) + white * paint[..., None]
    out[..., 3] = 255 * (1 - paint)
    return out


def pavement(rng: Rng, size: int = 256) -> np.ndarray:
    """Paints slabs or setts with joints, in tinted grey."""
    rows = int(rng.choice([6, 8, 12, 16]))
    step = size // rows
    grey = np.full((size, size), 205, np.float32)
    bond = rng.random() < 0.6
    for r in range(rows):
        shift = step // 2 if bond and r % 2 else 0
        for c in range(-1, rows + 1):
            x, y = c * step + shift, r * step
            cv2.rectangle(grey, (x, y), (x + step, y + step), float(205 + rng.normal(0, 11)), -1)
            cv2.rectangle(grey, (x, y), (x + step, y + step), 158.0, 1)
    return rgba(grey + 9 * fbm(rng, size, size) + 5 * rng.standard_normal((size, size)), 255)


def grass(rng: Rng, size: int = 256) -> np.ndarray:
    """Paints lawn, meadow or bare earth: two tones mixed by noise, blades on top."""
    a, b = 185 + rng.normal(0, 8), 215 + rng.normal(0, 8)
    mix = 1 / (1 + np.exp(-2 * fbm(rng, size, size, cells=4)))
    grey = a + (b - a) * mix + 13 * cv2.GaussianBlur(rng.standard_normal((size, size)), (1, 5), 1.2) * 2
    earth = np.array([1.0, 0.83, 0.6])
    patch = np.clip(fbm(rng, size, size, cells=3) - 1.0, 0, 1)[..., None]
    colour = grey[..., None] * (1 - patch) + grey[..., None] * earth * patch
    return rgba(colour, 255 * (1 - 0.6 * patch[..., 0]))


def leaves(rng: Rng, h: int, w: int) -> np.ndarray:
    """Paints foliage: clumps lit from above with dark gaps."""
    clumps = fbm(rng, h, w, cells=6, octaves=3)
    fine = rng.standard_normal((h, w), dtype=np.float32)
    fine = cv2.GaussianBlur(fine, (0, 0), 1.0) * 2.5
    relief = clumps - np.roll(clumps, 3, axis=0)
    return rgba(165 + 20 * clumps + 32 * relief + 20 * fine, 255)


def bricks(rng: Rng, size: int = 128, *, rows: int = 16) -> np.ndarray:
    """Paints a brick or block bond with mortar."""
    step = size // rows
    grey = np.full((size, size), 190, np.float32)
    for r in range(rows):
        for c in range(-1, rows // 2 + 1):
            x = c * 2 * step + (step if r % 2 else 0)
            cv2.rectangle(
                grey, (x, r * step), (x + 2 * step - 1, r * step + step - 1), float(195 + rng.normal(0, 14)), -1
            )
    grey[::step] = 225
    for r in range(rows):
        grey[r * step : (r + 1) * step, (step if r % 2 else 0) :: 2 * step] = 222
    return rgba(grey + 6 * fbm(rng, size, size), 255)


def plaster(rng: Rng, size: int = 128) -> np.ndarray:
    """Paints concrete or render with stains and, sometimes, panel joints."""
    grey = 205 + 9 * fbm(rng, size, size, cells=3) + 3 * rng.standard_normal((size, size))
    if rng.random() < 0.5:
        step = size // int(rng.choice([2, 4]))
        grey[::step] -= 40
        grey[:, ::step] -= 40
    return rgba(grey, 255)


def _wall(rng: Rng, h: int, w: int) -> np.ndarray:
    base = bricks(rng, 128, rows=int(rng.choice([16, 32]))) if rng.random() < 0.4 else plaster(rng, 128)
    return np.tile(base, (-(-h // 128), -(-w // 128), 1))[:h, :w].copy()


def _pane(rng: Rng, image: np.ndarray, x0: int, y0: int, x1: int, y1: int, frame: float) -> None:
    """Paints a window: frame, glass that reflects the sky or shows a dark room, sometimes a blind or curtains."""
    if x1 - x0 < 3 or y1 - y0 < 3:
        return
    image[y0:y1, x0:x1] = (frame, frame, frame * 0.97, 40)
    x0, y0, x1, y1 = x0 + 2, y0 + 2, x1 - 2, y1 - 2
    h, w = max(y1 - y0, 1), max(x1 - x0, 1)
    top, bottom = rng.uniform(45, 170), rng.uniform(20, 90)
    tone = np.linspace(top, bottom, h)[:, None] + rng.normal(0, 4)
    glass = np.stack([tone * rng.uniform(0.75, 0.95), tone * 0.97, tone * rng.uniform(1.0, 1.15)], axis=-1)
    glass = np.repeat(glass, w, axis=1)
    kind = rng.random()
    if kind < 0.2:  # blind
        glass[: int(h * rng.uniform(0.2, 0.9))] = rng.uniform(150, 225) * np.array([1, 0.98, 0.92])
    elif kind < 0.4:  # curtains
        side = max(1, int(w * rng.uniform(0.12, 0.3)))
        glass[:, :side] = glass[:, w - side :] = rng.uniform(130, 215) * np.array([1, 0.96, 0.9])
    elif kind < 0.46:  # lamp light
        glass[:] = np.array([225, 190, 120]) * rng.uniform(0.7, 1.0)
    image[y0:y1, x0:x1, :3] = np.clip(glass, 0, 255)
    image[y0:y1, x0:x1, 3] = 0
    if w > 8:
        image[y0:y1, x0 + w // 2, :3] = frame


def facade(rng: Rng, size: int = 256) -> np.ndarray:
    """Paints tileable upper floors: three floors of three to five windows with sills, bands or balconies."""
    image = _wall(rng, size, size)
    columns, floors = int(rng.integers(3, 6)), 3
    fw, fh = size / columns, size / floors
    ww, wh = fw * rng.uniform(0.35, 0.75), fh * rng.uniform(0.4, 0.68)
    if rng.random() < 0.18:  # office: bands of glass
        ww, wh = fw * 0.93, fh * rng.uniform(0.5, 0.75)
    frame = float(rng.choice([60, 120, 215, 235]))
    band, balcony = rng.random() < 0.35, rng.random() < 0.3
    for r in range(floors):
        if band:
            y = int((r + 1) * fh) - 6
            image[y : y + 5, :, :3] = np.clip(image[y : y + 5, :, :3] * 1.12, 0, 255)
            image[y + 5, :, :3] = image[y + 5, :, :3] * 0.6
        for c in range(columns):
            x0, y0 = int(c * fw + (fw - ww) / 2), int(r * fh + (fh - wh) * 0.45)
            x1, y1 = int(x0 + ww), int(y0 + wh)
            _pane(rng, image, x0, y0, x1, y1, frame)
            image[y1 : y1 + 3, max(x0 - 2, 0) : x1 + 2, :3] = np.clip(frame * 1.0, 90, 240)  # sill
            image[y1 + 3 : y1 + 5, max(x0 - 2, 0) : x1 + 2, :3] = (
                image[y1 + 3 : y1 + 5, max(x0 - 2, 0) : x1 + 2, :3] * 0.7
            )
            if balcony and c % 2 == 0:
                image[y1 - 16 : y1 + 3, max(x0 - 6, 0) : x1 + 6 : 4, :3] = 40
                image[y1 - 16 : y1 - 14, max(x0 - 6, 0) : x1 + 6, :3] = 40
    return image


def ground_floor(rng: Rng, h: int = 96, w: int = 256) -> np.ndarray:
    """Paints shops with awnings and signs, or a house front with doors."""
    image = _wall(rng, h, w)
    if rng.random() < 0.55:
        bays = int(rng.integers(2, 4))
        for k in range(bays):
            x0, x1 = int(k * w / bays + 6), int((k + 1) * w / bays - 6)
            _pane(rng, image, x0, int(h * 0.34), x1, h - int(rng.integers(3, 18)), float(rng.choice([50, 90, 200])))
            colour = rng.uniform(40, 235, 3)
            image[int(h * 0.12) : int(h * 0.3), x0:x1, :3] = colour
            image[int(h * 0.12) : int(h * 0.3), x0:x1, 3] = 0
            for x in range(x0 + 10, x1 - 16, int(rng.integers(7, 12))):  # lettering
                cv2.rectangle(
                    image,
                    (x, int(h * 0.17)),
                    (x + int(rng.integers(2, 6)), int(h * 0.25)),
                    (*(255 - colour).tolist(), 0),
                    -1,
                )
            if rng.random() < 0.4:  # striped awning
                y0, y1 = int(h * 0.3), int(h * 0.44)
                image[y0:y1, x0:x1, :3] = rng.uniform(60, 230, 3)
                for x in range(x0, x1, 14):
                    image[y0:y1, x : min(x + 7, x1), :3] = 235
                image[y0:y1, x0:x1, 3] = 0
    else:
        for k in range(4):
            x0 = int(k * w / 4 + 14)
            if k == 1:
                cv2.rectangle(image, (x0, int(h * 0.25)), (x0 + 34, h), (*rng.uniform(30, 150, 3).tolist(), 0), -1)
                cv2.rectangle(image, (x0, int(h * 0.25)), (x0 + 34, h), (220, 215, 205, 0), 2)
            else:
                _pane(rng, image, x0, int(h * 0.25), x0 + 36, int(h * 0.7), float(rng.choice([60, 215])))
    image[-4:, :, :3] = image[-4:, :, :3] * 0.65
    return image


def roof(rng: Rng, size: int = 128) -> np.ndarray:
    """Paints rows of tiles."""
    grey = 175 + 8 * fbm(rng, size, size)
    grey[::8] -= 45
    grey[1::8] -= 20
    for r in range(16):
        grey[r * 8 : r * 8 + 8, (4 if r % 2 else 0) :: 8] -= 25
    return rgba(grey, 255)


def metal(rng: Rng, h: int = 64, w: int = 16) -> np.ndarray:
    """Paints a round post: bright in the middle, dark at the edges."""
    shade = 120 + 110 * np.sin(np.linspace(0.25, np.pi - 0.35, w))[None]
    return rgba(np.repeat(shade, h, axis=0) + 6 * rng.standard_normal((h, w)), 255)


def sky(rng: Rng, kind: str, h: int = 192, w: int = 512) -> np.ndarray:
    """Paints a gradient and clouds, with the horizon at the lower edge; kind: clear, cloudy, overcast or dusk."""
    top, low, cloud, cover = {
        "clear": ((78, 130, 200), (190, 212, 232), (250, 250, 250), -0.9),
        "cloudy": ((100, 140, 190), (205, 215, 225), (245, 245, 246), 0.1),
        "overcast": ((165, 172, 182), (222, 224, 226), (196, 200, 206), 0.6),
        "dusk": ((86, 96, 140), (244, 196, 150), (214, 160, 150), -0.1),
    }[kind]
    t = np.linspace(0, 1, h)[:, None, None] ** 1.3
    colour = np.array(top) * (1 - t) + np.array(low) * t + rng.normal(0, 6, 3)
    colour = np.repeat(colour, w, axis=1)
    noise = fbm(rng, h * 2, w, cells=4, octaves=6)[::2]  # flat clouds
    amount = np.clip((noise + cover) * 0.8, 0, 1)[..., None]
    light = 1 - 0.18 * np.clip(np.roll(noise, -4, axis=0) - noise * 0.3, 0, 1.5)[..., None]
    return rgba(colour * (1 - amount) + np.array(cloud) * light * amount, 0)
