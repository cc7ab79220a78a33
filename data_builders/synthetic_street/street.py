"""One street with its traffic, weather and camera, laid out by a random generator."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street import layout, traffic
from data_builders.synthetic_street.art import labels
from data_builders.synthetic_street.engine.camera import Camera
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.scene import EGO, SKY, Scene
from data_builders.synthetic_street.engine.world import Street, Town, Weather
from data_builders.synthetic_street.town import SKIES


def build_street(rng: Rng, town: Town, *, height: int, width: int) -> Street:
    """Returns a street; height, width: of the camera, in pixels."""
    scene = Scene()
    weather = _weather(rng)
    lanes = int(rng.choice([2, 3, 4], p=[0.55, 0.25, 0.2]))
    half = lanes * rng.uniform(2.9, 3.4) / 2 + (0.8 if lanes == 2 else 0.0)
    lane = 2 * half / lanes
    keep = 1 if rng.random() < 0.7 else -1  # side of the road on which one drives
    crossing = float(rng.uniform(16, 55)) if rng.random() < 0.55 else None
    _sky(rng, scene, town, weather)
    walks = {side: float(rng.uniform(1.8, 3.8)) for side in (-1, 1)}
    layout.add_ground(rng, scene, town, half, lanes, walks, crossing)
    kinds = {side: str(rng.choice(["city", "suburb", "park"], p=[0.5, 0.3, 0.2])) for side in (-1, 1)}
    for side in (-1, 1):
        layout.add_frontage(rng, scene, town, side, half + walks[side], kinds[side], crossing)
        layout.add_furniture(rng, scene, town, side, half, walks[side], crossing)
        traffic.add_walkers(rng, scene, town, side, half, walks[side])
    layout.add_backdrop(rng, scene, town)
    own = keep * (half - lane / 2 - (0.6 if lanes == 2 else 0.0)) if lanes != 3 else keep * lane * 0.95
    speed = float(rng.choice([0.0, rng.uniform(0.15, 0.5), rng.uniform(0.5, 1.1)], p=[0.12, 0.33, 0.55]))
    traffic.add_traffic(rng, scene, town, half, lane, keep, own, speed)
    traffic.add_parked(rng, scene, town, half, keep, own)
    if crossing is not None:
        traffic.add_junction(rng, scene, town, half, crossing)
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
    cast = np.clip(rng.normal(1.0, 0.03, 3), 0.85, 1.15)  # white balance
    return Weather(
        sky,
        sun,
        strength * warm * cast,
        np.array(ambient) * cast,
        float(rng.uniform(0.001, 0.007)),
        np.array(low, float),
        shadow,
        float(rng.uniform(0.3, 0.5)),
        float(rng.uniform(0.85, 1.15)),
    )


def _sky(rng: Rng, scene: Scene, town: Town, weather: Weather) -> None:
    texture = town.atlas.pick(rng, f"sky_{weather.sky}")
    scene.add((-1100, -800, 1000), (2200, 0, 0), (0, 860, 0), texture, labels.SKY_CLASS, body=SKY, lit=False)


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
    """Adds the ego vehicle's bonnet at the lower edge of the image, fixed to the camera; it has no label."""
    rise = rng.uniform(0.05, 0.12)  # share of the picture's height
    top = (0.5 - rise) * camera.height / camera.focal
    w, texture = rng.uniform(1.15, 1.7), town.atlas.pick(rng, "bonnet")
    scene.add((-w / 2, top, 1.0), (w, 0, 0), (0, 0.2, 0), texture, labels.VOID, body=EGO, tint=labels.tint(rng))
