"""Houses, walls, fences and hedges. Sizes in metres."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.art.labels import BUILDING, FENCE, VEGETATION, WALL, tint
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.scene import Body, Scene
from data_builders.synthetic_street.engine.world import Town


def box(scene: Scene, lo, hi, texture: int, label: int, *, texel: float, **kw) -> None:
    """Adds five faces of an axis-parallel box (no floor).

    lo, hi: (3,), corners.
    texel: metres that one texture covers.
    """
    (x0, y0, z0), (x1, y1, z1) = lo, hi
    w, h, d = x1 - x0, y1 - y0, z1 - z0
    across, along = (w / texel, h / texel), (d / texel, h / texel)
    scene.add((x0, y0, z0), (w, 0, 0), (0, h, 0), texture, label, repeat=across, **kw)
    scene.add((x0, y0, z1), (w, 0, 0), (0, h, 0), texture, label, repeat=across, **kw)
    scene.add((x0, y0, z0), (0, 0, d), (0, h, 0), texture, label, repeat=along, **kw)
    scene.add((x1, y0, z0), (0, 0, d), (0, h, 0), texture, label, repeat=along, **kw)
    scene.add((x0, y0, z0), (w, 0, 0), (0, 0, d), texture, label, repeat=(w / texel, d / texel), **kw)


def strip(rng: Rng, scene: Scene, town: Town, kind: str, start, end, *, ground: float) -> None:
    """Adds a wall, fence or hedge between two points (x, z) on the ground."""
    (x0, z0), (x1, z1) = start, end
    length = float(np.hypot(x1 - x0, z1 - z0))
    if length < 0.5:
        return
    if kind == "wall":
        h, label, texel, colour = rng.uniform(1.3, 2.8), WALL, 2.4, tint(rng)
    elif kind == "fence":
        h, label, texel, colour = rng.uniform(1.0, 1.9), FENCE, 2.6, tint(rng)
    else:
        h, label, texel, colour = rng.uniform(0.9, 2.2), VEGETATION, 3.0, tint(rng, "leaf", 0.05)
    right = np.array([x1 - x0, 0.0, z1 - z0])
    texture = town.atlas.pick(rng, kind)
    scene.add(
        (x0, ground - h, z0),
        right,
        (0, h, 0),
        texture,
        label,
        repeat=(length / texel, 1.0 if kind != "wall" else h / texel),
        tint=colour,
        fade=(1.05, 0.72),
    )
    if kind != "fence":  # thickness: the far face and the top
        normal = np.array([-right[2], 0.0, right[0]]) / length * np.sign(x0 or 1.0) * -0.35
        scene.add(
            np.array((x0, ground - h, z0)) + normal,
            right,
            (0, h, 0),
            texture,
            label,
            repeat=(length / texel, 1.0),
            tint=colour,
        )
        if kind == "wall":
            scene.add((x0, ground - h, z0), right, normal, texture, label, repeat=(length / texel, 0.15), tint=colour)


def building(
    rng: Rng,
    scene: Scene,
    town: Town,
    side: float,
    x: float,
    z0: float,
    z1: float,
    *,
    floors: int,
    depth: float,
    ground: float,
) -> None:
    """Adds a house with its front at x, facing the street; side: -1 (left) or 1 (right)."""
    atlas, colour = town.atlas, tint(rng)
    low, storey = 3.6, 3.1
    top = ground - low - floors * storey
    upper, base = atlas.pick(rng, "facade"), atlas.pick(rng, "ground_floor")
    length = z1 - z0
    bay, shop = 10.5, 10.5
    scene.bodies.append(
        Body(np.array([x + side * depth / 2, 0.0, (z0 + z1) / 2]), footprint=(depth / 2, length / 2, -top))
    )
    below = tint(rng) if rng.random() < 0.4 else colour
    fronts = [((x, 0, z0), (0, 0, length))]
    fronts += [((x, 0, z), (side * depth, 0, 0)) for z in (z0, z1)]
    for k, (start, right) in enumerate(fronts):
        start, right = np.array(start, float), np.array(right, float)
        span = float(np.abs(right).sum())
        start[1] = ground - low
        scene.add(
            start,
            right,
            (0, low, 0),
            base if k == 0 else upper,
            BUILDING,
            repeat=(span / shop, 1.0 if k == 0 else 0.39),
            tint=below,
            fade=(1.0, 0.78),
        )
        start[1] = top
        scene.add(
            start,
            right,
            (0, floors * storey, 0),
            upper,
            BUILDING,
            repeat=(span / bay, floors / 3),
            tint=colour,
            fade=(1.04, 0.95),
        )
    eave = np.array([x - side * 0.35, top - 0.02, z0 - 0.2])
    if rng.random() < 0.55:  # pitched roof
        rise = rng.uniform(1.6, 3.2)
        back = depth / 2
        scene.add(
            eave + (side * back, -rise, 0),
            (0, 0, length + 0.4),
            (-side * back, rise, 0),
            atlas.pick(rng, "roof"),
            BUILDING,
            repeat=(length / 4, back / 4),
            tint=tint(rng),
        )
        box(
            scene,
            (x + side * 2 - 0.4, top - rise - 0.6, z0 + 1),
            (x + side * 2 + 0.4, top, z0 + 1.8),
            atlas.pick(rng, "wall"),
            BUILDING,
            texel=2.0,
            tint=below,
        )
    else:  # parapet that juts out
        scene.add(
            eave + (0, -0.35, 0),
            (0, 0, length + 0.4),
            (0, 0.5, 0),
            atlas.pick(rng, "kerb"),
            BUILDING,
            repeat=(length, 0.5),
            tint=below,
        )
        scene.add(
            eave + (0, 0.15, 0),
            (0, 0, length + 0.4),
            (side * 0.5, 0, 0),
            atlas.pick(rng, "kerb"),
            BUILDING,
            repeat=(length, 0.5),
            tint=below * 0.6,
        )
