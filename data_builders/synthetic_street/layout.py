"""The fixed parts of a street: ground, fronts, furniture, background."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.art import buildings, furniture, labels, movers
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.scene import Scene
from data_builders.synthetic_street.engine.world import Town

_FAR = 120.0  # metres to the end of the street
KERB = 0.13


def _slab(
    scene: Scene, x0: float, x1: float, y: float, z0: float, z1: float, texture: int, label: int, texel, colour
) -> None:
    """Adds a level rectangle; texel: metres that one texture covers across and along."""
    repeat = ((x1 - x0) / texel[0], (z1 - z0) / texel[1])
    scene.add((x0, y, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0), texture, label, repeat=repeat, tint=colour, ground=True)


def add_ground(rng: Rng, scene: Scene, town: Town, half: float, lanes: int, walks, crossing) -> None:
    """Adds road, kerbs, pavements, the ground behind them, and the side street.

    half: metres from the middle of the road to the kerb.
    lanes: of the road.
    walks: side, -1 or 1 -> width of the pavement in metres.
    crossing: z of the side street, None for none.
    """
    atlas, near, far = town.atlas, -6.0, 260.0
    stone = labels.tint(rng, "stone")
    width = 2 * half
    period = 20.0
    _slab(scene, -half, half, 0.0, near, far, atlas.pick(rng, f"road{lanes}"), labels.ROAD, (width, period), stone)
    if rng.random() < 0.3:  # rails
        for x in (-0.72, 0.72):
            _slab(
                scene,
                x - 0.06,
                x + 0.06,
                -0.006,
                near,
                far,
                atlas.pick(rng, "metal"),
                labels.ROAD,
                (0.12, 8),
                np.array([0.5, 0.46, 0.44]),
            )
    for _ in range(int(rng.integers(0, 4))):
        x = (float(rng.integers(lanes)) + 0.5) * width / lanes - half
        z = rng.uniform(6, 40)
        scene.add(
            (x - 0.45, -0.006, z + 4), (0.9, 0, 0), (0, 0, -4), atlas.pick(rng, "arrow"), labels.ROAD, ground=True
        )
    pave, kerb = labels.tint(rng, "paving"), labels.tint(rng, "paving") * 1.1
    texture = atlas.pick(rng, "pavement")
    for side in (-1, 1):
        inner, outer = half, half + walks[side]
        x0, x1 = sorted((side * inner, side * outer))
        _slab(scene, x0, x1, -KERB, near, far, texture, labels.SIDEWALK, (3.2, 3.2), pave)
        scene.add(
            (side * half, -KERB, near),
            (0, 0, far),
            (0, KERB, 0),
            atlas.pick(rng, "kerb"),
            labels.SIDEWALK,
            repeat=(far / 1.2, 0.2),
            tint=kerb,
        )
        paved = rng.random() < 0.3
        x0, x1 = sorted((side * outer, side * 95.0))
        _slab(
            scene,
            x0,
            x1,
            -KERB + 0.01,
            near,
            far,
            texture if paved else atlas.pick(rng, "grass"),
            labels.SIDEWALK if paved else labels.TERRAIN,
            (5.0, 5.0),
            pave if paved else labels.tint(rng, "earth"),
        )
        if rng.random() < 0.3 and walks[side] > 2.6:  # a verge with grass beside the kerb
            x0, x1 = sorted((side * (half + 0.28), side * (half + 1.2)))
            _slab(
                scene,
                x0,
                x1,
                -KERB - 0.012,
                near,
                far,
                atlas.pick(rng, "grass"),
                labels.TERRAIN,
                (5.0, 5.0),
                labels.tint(rng, "earth"),
            )
    if crossing is not None:
        depth = 7.0
        _slab(
            scene,
            -80,
            80,
            -KERB - 0.02,
            crossing,
            crossing + depth,
            atlas.pick(rng, "asphalt"),
            labels.ROAD,
            (6, 6),
            stone,
        )
        for z in (crossing - 3.2, crossing + depth + 0.4):
            scene.add(
                (-half, -0.01, z),
                (2 * half, 0, 0),
                (0, 0, 2.8),
                atlas.pick(rng, "zebra"),
                labels.ROAD,
                ground=True,
                repeat=(1.0, 1.0),
            )


def add_frontage(rng: Rng, scene: Scene, town: Town, side: int, edge: float, kind: str, crossing) -> None:
    """Adds houses, walls, fences, hedges and trees behind the pavement of one side."""
    z = rng.uniform(-8, 0)
    while z < _FAR:
        if kind == "city":
            length, floors, setback, depth = (
                rng.uniform(9, 20),
                int(rng.integers(2, 7)),
                0.0 if rng.random() < 0.75 else rng.uniform(0.5, 3),
                11.0,
            )
            gap = 0.0 if rng.random() < 0.62 else rng.uniform(3, 9)
        elif kind == "suburb":
            length, floors, setback, depth = rng.uniform(8, 13), int(rng.integers(1, 3)), rng.uniform(3, 8), 9.0
            gap = rng.uniform(4, 10)
        else:
            length, floors, setback, depth = rng.uniform(10, 22), 0, 0.0, 0.0
            gap = rng.uniform(0, 4)
        end = z + length
        if crossing is not None and z < crossing + 9 and end + gap > crossing - 2:
            if end > crossing - 2:
                if z < crossing - 10:
                    end, gap = crossing - 2, 0.0
                else:
                    z = crossing + 9.5
                    continue
            else:
                gap = crossing - 2 - end
        if floors:
            buildings.building(
                rng, scene, town, side, side * (edge + setback), z, end, floors=floors, depth=depth, ground=-KERB
            )
        line = side * (edge + 0.15)
        if kind == "park" or setback > 2:
            choice = rng.choice(["wall", "fence", "hedge", "none"], p=[0.26, 0.34, 0.2, 0.2])
            if choice != "none":
                buildings.strip(rng, scene, town, str(choice), (line, z), (line, end), ground=-KERB)
            for _ in range(int(rng.integers(0, 3 if floors else 5))):
                x = side * (edge + rng.uniform(1.2, max(setback - 0.5, 2.0) if floors else 14))
                if rng.random() < 0.35:
                    furniture.bush(rng, scene, town, x, rng.uniform(z, end), ground=-KERB)
                else:
                    furniture.tree(rng, scene, town, x, rng.uniform(z, end), height=rng.uniform(4.5, 10), ground=-KERB)
        if gap > 1:
            choice = rng.choice(["wall", "fence", "hedge", "none"], p=[0.38, 0.36, 0.14, 0.12])
            if choice != "none":
                buildings.strip(rng, scene, town, str(choice), (line, end), (line, end + gap), ground=-KERB)
            if rng.random() < 0.6:
                furniture.tree(
                    rng,
                    scene,
                    town,
                    side * (edge + rng.uniform(2.5, 6)),
                    end + gap / 2,
                    height=rng.uniform(5, 11),
                    ground=-KERB,
                )
        z = end + gap


def add_furniture(rng: Rng, scene: Scene, town: Town, side: int, half: float, walk: float, crossing) -> None:
    """Adds lamps, trees, signs, lights, bins and parked bicycles on the pavement of one side."""
    x = side * (half + 0.55)
    step, z = rng.uniform(14, 26), rng.uniform(4, 14)
    while z < _FAR:
        furniture.lamp(rng, scene, town, x, z, ground=-KERB)
        z += step
    if rng.random() < 0.55:
        step, z = rng.uniform(7, 15), rng.uniform(3, 12)
        while z < _FAR * 0.8:
            furniture.tree(rng, scene, town, side * (half + 0.95), z, height=rng.uniform(4.2, 8), ground=-KERB)
            z += step
    for _ in range(int(rng.integers(1, 5))):
        furniture.sign(rng, scene, town, side * (half + rng.uniform(0.35, 0.6)), rng.uniform(6, 50), ground=-KERB)
    if crossing is not None:
        for z in (crossing - 3.6, crossing + 10.5):
            if rng.random() < 0.85:
                furniture.traffic_light(rng, scene, town, side * (half + 0.5), z, ground=-KERB)
    elif rng.random() < 0.35:
        furniture.traffic_light(rng, scene, town, side * (half + 0.5), rng.uniform(9, 24), ground=-KERB)
    for _ in range(int(rng.integers(0, 4))):
        furniture.clutter(rng, scene, town, side * (half + walk - 0.8), rng.uniform(6, 45), ground=-KERB)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.3, 0.3]))):
        kind = "bicycle" if rng.random() < 0.55 else "motorcycle"
        z, yaw = rng.uniform(6, 30), float(rng.choice([np.pi / 2, -np.pi / 2])) + rng.normal(0, 0.25)
        for k in range(int(rng.integers(1, 5))):
            movers.cycle(
                rng, scene, town, kind, side * (half + 1.3), z + 0.8 * k, yaw=yaw, speed=0.0, rider=False, ground=-KERB
            )
    for _ in range(int(rng.integers(0, 3))):  # posts against parking
        z0 = rng.uniform(5, 30)
        for k in range(int(rng.integers(2, 7))):
            furniture.post(rng, scene, town, side * (half + 0.35), z0 + 1.6 * k, height=0.95, ground=-KERB, width=0.12)


def add_backdrop(rng: Rng, scene: Scene, town: Town) -> None:
    """Adds the background: rows of distant houses and woods."""
    x = -150.0
    while x < 150:
        w, h, z = rng.uniform(14, 40), rng.uniform(8, 24), rng.uniform(_FAR + 5, 200)
        if rng.random() < 0.5:
            scene.add(
                (x, -h, z),
                (w, 0, 0),
                (0, h, 0),
                town.atlas.pick(rng, "facade"),
                labels.BUILDING,
                repeat=(w / 10.5, h / 9.3),
                tint=labels.tint(rng),
            )
        else:
            scene.add(
                (x, -h, z),
                (w * 1.6, 0, 0),
                (0, h, 0),
                town.atlas.pick(rng, "bush"),
                labels.VEGETATION,
                tint=labels.tint(rng, "leaf"),
            )
        x += w * 0.8
    for side in (-1, 1):
        z = -5.0
        while z < _FAR + 40:
            w, h, x = rng.uniform(14, 34), rng.uniform(6, 13), side * rng.uniform(34, 60)
            if rng.random() < 0.45:
                scene.add(
                    (x, -h, z),
                    (0, 0, w),
                    (0, h, 0),
                    town.atlas.pick(rng, "facade"),
                    labels.BUILDING,
                    repeat=(w / 10.5, h / 9.3),
                    tint=labels.tint(rng),
                )
            else:
                scene.add(
                    (x, -h, z),
                    (0, 0, w * 1.5),
                    (0, h, 0),
                    town.atlas.pick(rng, "bush"),
                    labels.VEGETATION,
                    tint=labels.tint(rng, "leaf"),
                )
            z += w * 0.75
