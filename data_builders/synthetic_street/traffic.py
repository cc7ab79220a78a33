"""Traffic of a street: vehicles, cyclists, people."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.art import movers
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.scene import Scene
from data_builders.synthetic_street.engine.world import Town
from data_builders.synthetic_street.layout import KERB

_LONG = {"car": 6.5, "truck": 12.0, "bus": 15.0, "tram": 27.0}


def add_traffic(
    rng: Rng, scene: Scene, town: Town, half: float, lane: float, keep: int, own: float, speed: float
) -> None:
    """Adds vehicles ahead in the camera's direction, oncoming vehicles, and cyclists at the edge of the road."""

    def kind() -> str:
        return str(rng.choice(["car", "truck", "bus", "tram"], p=[0.52, 0.17, 0.16, 0.15]))

    z = rng.uniform(8, 22)
    while z < 95:
        k = kind()
        pace = max(0.0, speed + rng.normal(0.04, 0.1)) if speed else 0.0
        movers.vehicle(
            rng, scene, town, k, own + rng.normal(0, 0.12), z + _LONG[k] / 2, yaw=rng.normal(0, 0.015), speed=pace
        )
        z += _LONG[k] + rng.uniform(5, 30)
    first = -own if abs(own) > 1 else -keep * (half - lane / 2)
    for x in {round(first, 3), round(-keep * lane / 2, 3)} if half > 5 else {round(first, 3)}:
        z = rng.uniform(6, 22)
        while z < 100:
            k = kind()
            movers.vehicle(
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
        movers.cycle(
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


def add_parked(rng: Rng, scene: Scene, town: Town, half: float, keep: int, own: float) -> None:
    """Adds vehicles parked at the kerb, if the camera's lane leaves space."""
    for side in (-1, 1):
        if abs(side * half - own) < 2.7 or rng.random() < 0.35:
            continue
        z = rng.uniform(5, 16)
        while z < 70:
            if rng.random() < 0.7:
                kind = "car" if rng.random() < 0.85 else "truck"
                yaw = (0.0 if side == keep else np.pi) + rng.normal(0, 0.02)
                movers.vehicle(rng, scene, town, kind, side * (half - 0.6), z + _LONG[kind] / 2, yaw=yaw, speed=0.0)
                z += _LONG[kind] - 4.5
            z += rng.uniform(4.6, 7.5)


def add_junction(rng: Rng, scene: Scene, town: Town, half: float, crossing: float) -> None:
    """Adds people on the zebra crossing, and traffic in the side street."""
    for _ in range(int(rng.integers(1, 6))):
        direction = float(rng.choice([-1, 1]))
        movers.person(
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
        movers.cycle(
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
        movers.vehicle(
            rng,
            scene,
            town,
            kind,
            -direction * rng.uniform(8, 20),
            crossing + 3.4 + direction * 1.2,
            yaw=direction * np.pi / 2,
            speed=rng.uniform(0.2, 0.8),
            turn=float(rng.choice([0.0, 0.02])) * direction,
        )


def add_walkers(rng: Rng, scene: Scene, town: Town, side: int, half: float, walk: float) -> None:
    """Adds people who walk or stand on the pavement of one side."""
    for _ in range(int(rng.integers(3, 10))):
        x = side * (half + rng.uniform(0.7, max(walk - 0.3, 0.9)))
        z = rng.uniform(5, 42) ** 1.0
        stands = rng.random() < 0.2
        yaw = rng.uniform(-3.1, 3.1) if stands else float(rng.choice([0, np.pi])) + rng.normal(0, 0.12)
        for k in range(1 if rng.random() < 0.65 else 2):
            movers.person(
                rng,
                scene,
                town,
                x + 0.55 * k,
                z + 0.15 * k,
                yaw=yaw,
                speed=0.0 if stands else rng.uniform(0.08, 0.16),
                ground=-KERB,
            )
