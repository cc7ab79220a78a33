"""Lays out one street with its traffic, weather and camera, from a random generator."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_builders.synthetic_street import objects as o
from data_builders.synthetic_street.camera import Camera
from data_builders.synthetic_street.scene import EGO, SKY, Scene
from data_builders.synthetic_street.surfaces import Rng
from data_builders.synthetic_street.town import SKIES, Town

_FAR = 120.0  # metres to the end of the street
_KERB = 0.13


@dataclasses.dataclass(frozen=True)
class Weather:
    """Light of a sequence: colours are factors per channel; sun points from the ground to the sun (unit); haze per metre."""

    sky: str
    sun: np.ndarray
    sun_colour: np.ndarray
    ambient: np.ndarray
    haze: float
    haze_colour: np.ndarray
    shadow: float  # share of light that a cast shadow takes away
    exposure: float
    gamma: float


@dataclasses.dataclass(frozen=True)
class Street:
    """What the renderer gets."""

    scene: Scene
    weather: Weather
    camera: Camera
    town: Town


def build_street(rng: Rng, town: Town, *, height: int, width: int) -> Street:
    """One street; everything random comes from rng."""
    scene = Scene()
    weather = _weather(rng)
    lanes = int(rng.choice([2, 3, 4], p=[0.55, 0.25, 0.2]))
    half = lanes * rng.uniform(2.9, 3.4) / 2 + (0.8 if lanes == 2 else 0.0)
    lane = 2 * half / lanes
    keep = 1 if rng.random() < 0.7 else -1  # side of the road on which one drives
    crossing = float(rng.uniform(16, 55)) if rng.random() < 0.55 else None
    _sky(rng, scene, town, weather)
    walks = {side: float(rng.uniform(1.8, 3.8)) for side in (-1, 1)}
    _ground(rng, scene, town, half, lanes, walks, crossing)
    kinds = {side: str(rng.choice(["city", "suburb", "park"], p=[0.5, 0.3, 0.2])) for side in (-1, 1)}
    for side in (-1, 1):
        _frontage(rng, scene, town, side, half + walks[side], kinds[side], crossing)
        _furniture(rng, scene, town, side, half, walks[side], crossing)
        _walkers(rng, scene, town, side, half, walks[side])
    _backdrop(rng, scene, town)
    own = keep * (half - lane / 2 - (0.6 if lanes == 2 else 0.0)) if lanes != 3 else keep * lane * 0.95
    speed = float(rng.choice([0.0, rng.uniform(0.15, 0.5), rng.uniform(0.5, 1.1)], p=[0.12, 0.33, 0.55]))
    _traffic(rng, scene, town, half, lane, keep, own, speed)
    _parked(rng, scene, town, half, keep, own)
    if crossing is not None:
        _junction(rng, scene, town, half, crossing)
    camera = _camera(rng, own, speed, height, width)
    if rng.random() < 0.7:
        _bonnet(rng, scene, town, camera)
    return Street(scene.freeze(), weather, camera, town)


def _weather(rng: Rng) -> Weather:
    sky = SKIES[int(rng.choice(4, p=[0.32, 0.3, 0.24, 0.14]))]
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.15) if sky != "dusk" else rng.uniform(0.22, 0.4)
    sun = np.array([np.cos(height) * np.sin(azimuth), -np.sin(height), np.cos(height) * np.cos(azimuth)])
    strength, shadow, ambient = {
        "clear": (0.85, 0.58, (0.5, 0.55, 0.64)),
        "cloudy": (0.6, 0.42, (0.58, 0.61, 0.66)),
        "overcast": (0.16, 0.1, (0.78, 0.8, 0.83)),
        "dusk": (0.62, 0.4, (0.44, 0.44, 0.55)),
    }[sky]
    warm = np.array([1.0, 0.76, 0.52]) if sky == "dusk" else np.array([1.0, 0.96, 0.88])
    low = {"clear": (190, 212, 232), "cloudy": (205, 215, 225), "overcast": (215, 218, 221), "dusk": (226, 186, 152)}[
        sky
    ]
    cast = np.clip(rng.normal(1.0, 0.04, 3), 0.85, 1.15)  # white balance
    return Weather(sky, sun, strength * warm * cast, np.array(ambient) * cast, float(rng.uniform(0.001, 0.007)), np.array(low, float),
                   shadow, float(rng.uniform(0.8, 1.2)), float(rng.uniform(0.85, 1.15)))  # fmt: skip


def _sky(rng: Rng, scene: Scene, town: Town, weather: Weather) -> None:
    texture = town.atlas.pick(rng, f"sky_{weather.sky}")
    scene.add((-1100, -800, 1000), (2200, 0, 0), (0, 860, 0), texture, o.SKY_CLASS, body=SKY, fog=0.0, lit=False)


def _slab(
    scene: Scene, x0: float, x1: float, y: float, z0: float, z1: float, texture: int, label: int, texel, colour
) -> None:
    """A level rectangle; texel: metres that one texture covers across and along."""
    repeat = ((x1 - x0) / texel[0], (z1 - z0) / texel[1])
    scene.add((x0, y, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0), texture, label, repeat=repeat, tint=colour, ground=True)


def _ground(rng: Rng, scene: Scene, town: Town, half: float, lanes: int, walks, crossing) -> None:
    atlas, near, far = town.atlas, -6.0, 260.0
    stone = o.tint(rng, "stone")
    width = 2 * half
    period = 20.0
    _slab(scene, -half, half, 0.0, near, far, atlas.pick(rng, f"road{lanes}"), o.ROAD, (width, period), stone)
    if rng.random() < 0.3:  # rails
        for x in (-0.72, 0.72):
            x += float(rng.choice([-1, 1])) * 0.0
            _slab(
                scene,
                x - 0.06,
                x + 0.06,
                -0.006,
                near,
                far,
                atlas.pick(rng, "metal"),
                o.ROAD,
                (0.12, 8),
                np.array([0.5, 0.46, 0.44]),
            )
    for _ in range(int(rng.integers(0, 4))):
        x = (float(rng.integers(lanes)) + 0.5) * width / lanes - half
        z = rng.uniform(6, 40)
        scene.add((x - 0.45, -0.006, z + 4), (0.9, 0, 0), (0, 0, -4), atlas.pick(rng, "arrow"), o.ROAD, ground=True)
    pave, kerb = o.tint(rng, "paving"), o.tint(rng, "paving") * 1.1
    texture = atlas.pick(rng, "pavement")
    for side in (-1, 1):
        inner, outer = half, half + walks[side]
        x0, x1 = sorted((side * inner, side * outer))
        _slab(scene, x0, x1, -_KERB, near, far, texture, o.SIDEWALK, (3.2, 3.2), pave)
        scene.add(
            (side * half, -_KERB, near),
            (0, 0, far),
            (0, _KERB, 0),
            atlas.pick(rng, "kerb"),
            o.SIDEWALK,
            repeat=(far / 1.2, 0.2),
            tint=kerb,
        )
        strip = side * (half + 0.28)
        x0, x1 = sorted((side * half, strip))
        _slab(scene, x0, x1, -_KERB - 0.004, near, far, atlas.pick(rng, "kerb"), o.SIDEWALK, (1.2, 1.2), kerb)
        paved = rng.random() < 0.3
        x0, x1 = sorted((side * outer, side * 95.0))
        _slab(scene, x0, x1, -_KERB + 0.01, near, far, texture if paved else atlas.pick(rng, "grass"), o.SIDEWALK if paved else o.TERRAIN,
              (5.0, 5.0), pave if paved else o.tint(rng, "earth"))  # fmt: skip
        if rng.random() < 0.3 and walks[side] > 2.6:  # a verge with grass beside the kerb
            x0, x1 = sorted((side * (half + 0.28), side * (half + 1.2)))
            _slab(
                scene,
                x0,
                x1,
                -_KERB - 0.012,
                near,
                far,
                atlas.pick(rng, "grass"),
                o.TERRAIN,
                (5.0, 5.0),
                o.tint(rng, "earth"),
            )
    if crossing is not None:
        depth = 7.0
        _slab(
            scene, -80, 80, -_KERB - 0.02, crossing, crossing + depth, atlas.pick(rng, "asphalt"), o.ROAD, (6, 6), stone
        )
        for z in (crossing - 3.2, crossing + depth + 0.4):
            scene.add(
                (-half, -0.01, z),
                (2 * half, 0, 0),
                (0, 0, 2.8),
                atlas.pick(rng, "zebra"),
                o.ROAD,
                ground=True,
                repeat=(1.0, 1.0),
            )


def _frontage(rng: Rng, scene: Scene, town: Town, side: int, edge: float, kind: str, crossing) -> None:
    """Houses, walls, fences, hedges and trees behind the pavement of one side."""
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
            o.building(
                rng, scene, town, side, side * (edge + setback), z, end, floors=floors, depth=depth, ground=-_KERB
            )
        line = side * (edge + 0.15)
        if kind == "park" or setback > 2:
            choice = rng.choice(["wall", "fence", "hedge", "none"], p=[0.26, 0.34, 0.2, 0.2])
            if choice != "none":
                o.strip(rng, scene, town, str(choice), (line, z), (line, end), ground=-_KERB)
            for _ in range(int(rng.integers(0, 3 if floors else 5))):
                x = side * (edge + rng.uniform(1.2, max(setback - 0.5, 2.0) if floors else 14))
                if rng.random() < 0.35:
                    o.bush(rng, scene, town, x, rng.uniform(z, end), ground=-_KERB)
                else:
                    o.tree(rng, scene, town, x, rng.uniform(z, end), height=rng.uniform(4.5, 10), ground=-_KERB)
        if gap > 1:
            choice = rng.choice(["wall", "fence", "hedge", "none"], p=[0.38, 0.36, 0.14, 0.12])
            if choice != "none":
                o.strip(rng, scene, town, str(choice), (line, end), (line, end + gap), ground=-_KERB)
            if rng.random() < 0.6:
                o.tree(
                    rng,
                    scene,
                    town,
                    side * (edge + rng.uniform(2.5, 6)),
                    end + gap / 2,
                    height=rng.uniform(5, 11),
                    ground=-_KERB,
                )
        z = end + gap


def _furniture(rng: Rng, scene: Scene, town: Town, side: int, half: float, walk: float, crossing) -> None:
    """Lamps, trees, signs, lights, bins and parked bicycles on the pavement."""
    x = side * (half + 0.55)
    step, z = rng.uniform(14, 26), rng.uniform(4, 14)
    while z < _FAR:
        o.lamp(rng, scene, town, x, z, ground=-_KERB)
        z += step
    if rng.random() < 0.55:
        step, z = rng.uniform(7, 15), rng.uniform(3, 12)
        while z < _FAR * 0.8:
            o.tree(rng, scene, town, side * (half + 0.95), z, height=rng.uniform(4.2, 8), ground=-_KERB)
            z += step
    for _ in range(int(rng.integers(2, 6))):
        o.sign(rng, scene, town, side * (half + rng.uniform(0.35, 0.6)), rng.uniform(6, 50), ground=-_KERB)
    if crossing is not None:
        for z in (crossing - 3.6, crossing + 10.5):
            if rng.random() < 0.85:
                o.traffic_light(rng, scene, town, side * (half + 0.5), z, ground=-_KERB)
    elif rng.random() < 0.35:
        o.traffic_light(rng, scene, town, side * (half + 0.5), rng.uniform(9, 24), ground=-_KERB)
    for _ in range(int(rng.integers(0, 4))):
        o.clutter(rng, scene, town, side * (half + walk - 0.8), rng.uniform(6, 45), ground=-_KERB)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.3, 0.3]))):
        kind = "bicycle" if rng.random() < 0.55 else "motorcycle"
        z, yaw = rng.uniform(6, 30), float(rng.choice([np.pi / 2, -np.pi / 2])) + rng.normal(0, 0.25)
        for k in range(int(rng.integers(1, 5))):
            o.cycle(
                rng, scene, town, kind, side * (half + 1.3), z + 0.8 * k, yaw=yaw, speed=0.0, rider=False, ground=-_KERB
            )
    for _ in range(int(rng.integers(0, 3))):  # posts against parking
        z0 = rng.uniform(5, 30)
        for k in range(int(rng.integers(2, 7))):
            o.post(rng, scene, town, side * (half + 0.35), z0 + 1.6 * k, height=0.95, ground=-_KERB, width=0.12)


def _walkers(rng: Rng, scene: Scene, town: Town, side: int, half: float, walk: float) -> None:
    for _ in range(int(rng.integers(3, 10))):
        x = side * (half + rng.uniform(0.7, max(walk - 0.3, 0.9)))
        z = rng.uniform(5, 42) ** 1.0
        stands = rng.random() < 0.2
        yaw = rng.uniform(-3.1, 3.1) if stands else float(rng.choice([0, np.pi])) + rng.normal(0, 0.12)
        for k in range(1 if rng.random() < 0.65 else 2):
            o.person(
                rng,
                scene,
                town,
                x + 0.55 * k,
                z + 0.15 * k,
                yaw=yaw,
                speed=0.0 if stands else rng.uniform(0.08, 0.16),
                ground=-_KERB,
            )


def _backdrop(rng: Rng, scene: Scene, town: Town) -> None:
    """What closes the view: rows of distant houses and woods."""
    x = -150.0
    while x < 150:
        w, h, z = rng.uniform(14, 40), rng.uniform(8, 24), rng.uniform(_FAR + 5, 200)
        if rng.random() < 0.5:
            scene.add(
                (x, -h, z),
                (w, 0, 0),
                (0, h, 0),
                town.atlas.pick(rng, "facade"),
                o.BUILDING,
                repeat=(w / 10.5, h / 9.3),
                tint=o.tint(rng),
            )
        else:
            scene.add(
                (x, -h, z),
                (w * 1.6, 0, 0),
                (0, h, 0),
                town.atlas.pick(rng, "bush"),
                o.VEGETATION,
                tint=o.tint(rng, "leaf"),
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
                    o.BUILDING,
                    repeat=(w / 10.5, h / 9.3),
                    tint=o.tint(rng),
                )
            else:
                scene.add(
                    (x, -h, z),
                    (0, 0, w * 1.5),
                    (0, h, 0),
                    town.atlas.pick(rng, "bush"),
                    o.VEGETATION,
                    tint=o.tint(rng, "leaf"),
                )
            z += w * 0.75


_LONG = {"car": 6.5, "truck": 12.0, "bus": 15.0, "tram": 27.0}


def _traffic(rng: Rng, scene: Scene, town: Town, half: float, lane: float, keep: int, own: float, speed: float) -> None:
    """Vehicles ahead in the own direction, oncoming ones, cyclists at the edge."""

    def kind() -> str:
        return str(rng.choice(["car", "truck", "bus", "tram"], p=[0.52, 0.17, 0.16, 0.15]))

    z = rng.uniform(8, 22)
    while z < 95:
        k = kind()
        pace = max(0.0, speed + rng.normal(0.04, 0.1)) if speed else 0.0
        o.vehicle(
            rng, scene, town, k, own + rng.normal(0, 0.12), z + _LONG[k] / 2, yaw=rng.normal(0, 0.015), speed=pace
        )
        z += _LONG[k] + rng.uniform(5, 30)
    first = -own if abs(own) > 1 else -keep * (half - lane / 2)
    for x in {round(first, 3), round(-keep * lane / 2, 3)} if half > 5 else {round(first, 3)}:
        z = rng.uniform(6, 22)
        while z < 100:
            k = kind()
            o.vehicle(
                rng,
                scene,
                town,
                k,
                x + rng.normal(0, 0.12),
                z + _LONG[k] / 2,
                yaw=np.pi + rng.normal(0, 0.015),
                speed=rng.uniform(0.1, 1.0),
            )
            z += _LONG[k] + rng.uniform(8, 34)
    for _ in range(int(rng.integers(1, 4))):
        kind_ = "bicycle" if rng.random() < 0.55 else "motorcycle"
        ahead = rng.random() < 0.65
        x = (keep if ahead else -keep) * (half - rng.uniform(0.5, 0.9))
        pace = rng.uniform(0.25, 0.55) if kind_ == "bicycle" else rng.uniform(0.35, 0.9)
        o.cycle(
            rng,
            scene,
            town,
            kind_,
            x,
            rng.uniform(6, 26) + (0 if ahead else 8),
            yaw=(0.0 if ahead else np.pi) + rng.normal(0, 0.03),
            speed=pace,
            rider=True,
        )


def _parked(rng: Rng, scene: Scene, town: Town, half: float, keep: int, own: float) -> None:
    for side in (-1, 1):
        if abs(side * half - own) < 2.7 or rng.random() < 0.35:
            continue
        z = rng.uniform(5, 16)
        while z < 70:
            if rng.random() < 0.7:
                kind = "car" if rng.random() < 0.85 else "truck"
                yaw = (0.0 if side == keep else np.pi) + rng.normal(0, 0.02)
                o.vehicle(rng, scene, town, kind, side * (half - 0.6), z + _LONG[kind] / 2, yaw=yaw, speed=0.0)
                z += _LONG[kind] - 4.5
            z += rng.uniform(4.6, 7.5)


def _junction(rng: Rng, scene: Scene, town: Town, half: float, crossing: float) -> None:
    """People on the zebra crossing, traffic in the side street."""
    for _ in range(int(rng.integers(1, 6))):
        direction = float(rng.choice([-1, 1]))
        o.person(
            rng,
            scene,
            town,
            -direction * rng.uniform(0, half + 2),
            crossing - rng.uniform(0.6, 3.0),
            yaw=direction * np.pi / 2,
            speed=rng.uniform(0.09, 0.17),
        )
    if rng.random() < 0.5:
        direction = float(rng.choice([-1, 1]))
        kind = str(rng.choice(["bicycle", "motorcycle"]))
        o.cycle(
            rng,
            scene,
            town,
            kind,
            -direction * rng.uniform(1, 8),
            crossing + 1.2,
            yaw=direction * np.pi / 2,
            speed=rng.uniform(0.25, 0.5),
            rider=True,
        )
    if rng.random() < 0.6:
        direction = float(rng.choice([-1, 1]))
        kind = str(rng.choice(["car", "truck", "bus"], p=[0.6, 0.2, 0.2]))
        o.vehicle(rng, scene, town, kind, -direction * rng.uniform(8, 20), crossing + 3.4 + direction * 1.2, yaw=direction * np.pi / 2,
                  speed=rng.uniform(0.2, 0.8), turn=float(rng.choice([0.0, 0.02])) * direction)  # fmt: skip


def _camera(rng: Rng, own: float, speed: float, height: int, width: int) -> Camera:
    focal = width * rng.uniform(0.78, 0.98)
    shake = 0.35 + min(speed, 1.0)
    return Camera(
        height=height,
        width=width,
        focal=float(focal),
        start=(own + rng.normal(0, 0.15), -rng.uniform(1.25, 1.6), 0.0),
        speed=speed,
        drift=float(rng.normal(0, 0.02)) * min(speed, 1.0),
        mean=(float(rng.normal(0, 0.035)), float(rng.normal(0.045, 0.02)), float(rng.normal(0, 0.008))),
        wobble=(
            rng.uniform(0.002, 0.02) * shake,
            rng.uniform(0.001, 0.005) * shake,
            rng.uniform(0.001, 0.004) * shake,
            0.012 * shake,
        ),
        rate=tuple(rng.uniform(0.15, 0.9, 4).tolist()),
        phase=tuple(rng.uniform(0, 6.28, 4).tolist()),
    )


def _bonnet(rng: Rng, scene: Scene, town: Town, camera: Camera) -> None:
    """The ego vehicle's bonnet at the lower edge of the picture, fixed to the camera; it has no label."""
    rise = rng.uniform(0.04, 0.11)  # share of the picture's height
    y = (0.5 - rise) * camera.height / camera.focal
    colour = o.tint(rng)
    for k, (w, drop) in enumerate([(0.62, 0.0), (0.86, 0.018), (1.2, 0.045)]):
        scene.add((-w / 2, y + drop, 1.0 + 0.001 * k), (w, 0, 0), (0, 0.6, 0), town.atlas.pick(rng, "sheet"), o.VOID, body=EGO,
                  fog=0.0, tint=colour, fade=(1.25, 0.35))  # fmt: skip
