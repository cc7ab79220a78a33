"""Objects on a pavement: trees, lamps, signs, traffic lights, bins. Sizes in metres."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.art.buildings import box
from data_builders.synthetic_street.art.labels import LIGHT, POLE, SIGN, VEGETATION, VOID, tint
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.scene import WORLD, Body, Scene, board
from data_builders.synthetic_street.engine.world import Town


def tree(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, height: float, ground: float) -> None:
    """Adds a tree of two or three layers of foliage, which shift against each other as the camera moves."""
    width = height * rng.uniform(0.78, 0.95)
    colour = tint(rng, "leaf", 0.05)
    body = scene.body(
        Body(
            np.array([x, 0.0, z]),
            yaw=rng.uniform(-0.3, 0.3),
            footprint=(width * 0.33, width * 0.33, height * 0.64),
            round=True,
        )
    )
    board(
        scene,
        -width / 2,
        ground - height,
        width,
        height,
        town.atlas.pick(rng, "tree"),
        VEGETATION,
        body=body,
        tint=colour,
    )
    for k in range(int(rng.integers(1, 3))):
        s = rng.uniform(0.7, 0.95)
        board(
            scene,
            -width / 2 * s + rng.normal(0, 0.35),
            ground - height * rng.uniform(0.97, 1.06),
            width * s,
            height * s,
            town.atlas.pick(rng, "crown"),
            VEGETATION,
            z=0.7 * (k + 1),
            body=body,
            tint=colour * 0.8,
        )


def bush(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """Adds a shrub."""
    h = rng.uniform(0.7, 1.7)
    w = h * rng.uniform(1.3, 2.0)
    board(
        scene, x - w / 2, ground - h, w, h, town.atlas.pick(rng, "bush"), VEGETATION, z=z, tint=tint(rng, "leaf", 0.05)
    )


def post(
    rng: Rng, scene: Scene, town: Town, x: float, z: float, *, height: float, ground: float, width: float, colour=None
) -> None:
    """Adds a round post, as a board that faces the street's direction."""
    colour = tint(rng, "stone") if colour is None else colour
    texture = town.atlas.pick(rng, "metal")
    board(scene, x - width / 2, ground - height, width, height, texture, POLE, z=z, tint=colour)


def lamp(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """Adds a street lamp with an arm over the road."""
    h, colour = rng.uniform(5.5, 8.5), tint(rng, "stone")
    post(rng, scene, town, x, z, height=h, ground=ground, width=rng.uniform(0.14, 0.2), colour=colour)
    reach = -np.sign(x) * rng.uniform(1.0, 2.2)
    scene.add((x, ground - h, z), (reach, -0.3, 0), (0, 0.1, 0), town.atlas.pick(rng, "metal"), POLE, tint=colour)
    scene.add(
        (x + reach * 0.8, ground - h - 0.32, z),
        (reach * 0.4, -0.05, 0),
        (0, 0.16, 0),
        town.atlas.pick(rng, "metal"),
        POLE,
        tint=colour,
    )


def sign(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float, size: float | None = None) -> None:
    """Adds one or two traffic signs on a post."""
    h, colour = rng.uniform(2.5, 3.2), tint(rng, "stone")
    size = size or rng.uniform(0.65, 0.95)
    post(rng, scene, town, x, z, height=h, ground=ground, width=0.09, colour=colour)
    for k in range(int(rng.integers(1, 3))):
        board(
            scene,
            x - size / 2,
            ground - h + 0.04 + k * size * 1.04,
            size,
            size,
            town.atlas.pick(rng, "sign"),
            SIGN,
            z=z - 0.06,
        )


def traffic_light(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """Adds a traffic light on its post, sometimes with a second one on an arm over the road."""
    colour = tint(rng, "stone")
    h, size = rng.uniform(3.0, 3.6), rng.uniform(0.95, 1.2)
    texture = town.atlas.pick(rng, "light")
    post(rng, scene, town, x, z, height=h, ground=ground, width=0.14, colour=colour)
    board(scene, x - size * 0.2, ground - h - 0.1, size * 0.4, size, texture, LIGHT, z=z - 0.12)
    if rng.random() < 0.5:
        reach = -np.sign(x) * rng.uniform(2.5, 4.0)
        post(rng, scene, town, x, z, height=5.4, ground=ground, width=0.16, colour=colour)
        scene.add((x, ground - 5.4, z), (reach, 0, 0), (0, 0.12, 0), town.atlas.pick(rng, "metal"), POLE, tint=colour)
        board(scene, x + reach - size * 0.22, ground - 5.5, size * 0.44, size * 1.1, texture, LIGHT, z=z - 0.12)


def clutter(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """Adds a box without a class, in place of a bin or bench."""
    w, h, d = rng.uniform(0.5, 1.3), rng.uniform(0.7, 1.4), rng.uniform(0.5, 0.9)
    box(
        scene,
        (x - w / 2, ground - h, z),
        (x + w / 2, ground, z + d),
        town.atlas.pick(rng, "wall"),
        VOID,
        texel=1.2,
        tint=tint(rng),
        body=WORLD,
    )
