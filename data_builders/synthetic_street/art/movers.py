"""Vehicles, people and cyclists. Sizes in metres; local x right, y down, z ahead."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.art.labels import BICYCLE, BUS, CAR, MOTORCYCLE, PERSON, RIDER, TRAIN, TRUCK, tint
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.scene import Body, Scene, board
from data_builders.synthetic_street.engine.world import Town


def vehicle(
    rng: Rng, scene: Scene, town: Town, kind: str, x: float, z: float, *, yaw: float, speed: float, turn: float = 0.0
) -> None:
    """Adds a car, truck, bus or tram, centred at (x, z), with heading yaw and `speed` in metres per frame."""
    options = town.fleet[kind]
    chosen = options[int(rng.integers(len(options)))]
    parts = chosen if isinstance(chosen, tuple) else (chosen,)
    label = {"car": CAR, "truck": TRUCK, "bus": BUS, "tram": TRAIN}[kind]
    length = sum(p.length for p in parts)
    width, height = max(p.width for p in parts), max(p.height for p in parts)
    velocity = speed * np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    body = scene.body(
        Body(np.array([x, 0.0, z]), velocity, yaw, turn, footprint=(width / 2, length / 2, height * 0.85))
    )
    paints = [tint(rng), tint(rng)]
    if len(parts) == 2 and rng.random() < 0.5:
        paints[0] = np.array([0.9, 0.9, 0.88]) * rng.uniform(0.8, 1.0)
    back = -length / 2
    for part, colour in zip(parts, paints):
        w, h = part.width, part.height
        kw = {"body": body, "tint": colour}
        for edge in (-w / 2, w / 2):
            scene.add((edge, -h, back), (0, 0, part.length), (0, h, 0), part.side, label, **kw)
        for face, (z0, y0), (z1, y1) in zip(part.faces, part.profile[:-1], part.profile[1:]):
            upper, lower = ((z0, y0), (z1, y1)) if y0 > y1 else ((z1, y1), (z0, y0))
            if face in town.atlas.names("end"):  # its texture reaches down to the road
                lower = (lower[0], 0.0)
            scene.add(
                (-w / 2, -upper[1], back + upper[0]),
                (w, 0, 0),
                (0, upper[1] - lower[1], lower[0] - upper[0]),
                face,
                label,
                **kw,
            )
        back += part.length
    if kind == "tram" and rng.random() < 0.8:  # pantograph
        texture = town.atlas.pick(rng, "metal")
        for lean in (-0.8, 0.8):
            scene.add(
                (-0.06, -height - 0.9, lean * 0.1),
                (0.12, 0, 0),
                (0, 0.9, lean),
                texture,
                label,
                body=body,
                tint=(0.4, 0.4, 0.42),
            )
        scene.add(
            (-0.7, -height - 0.95, 0.0), (1.4, 0, 0), (0, 0.08, 0), texture, label, body=body, tint=(0.4, 0.4, 0.42)
        )


def person(
    rng: Rng, scene: Scene, town: Town, x: float, z: float, *, yaw: float, speed: float, ground: float = 0.0
) -> None:
    """Adds a person, who walks with swinging legs and arms, or stands if speed is 0."""
    tall = rng.uniform(1.5, 1.92) * (1.0 if rng.random() < 0.9 else 0.65)
    velocity = speed * np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    rate = 3.2 * speed / (0.45 * tall) if speed else 0.0
    body = scene.body(Body(np.array([x, 0.0, z]), velocity, yaw, swing=rate, footprint=(0.16, 0.14, tall)))
    side = abs(np.sin(yaw)) > 0.7
    view = "side" if side else ("back" if np.cos(yaw) > 0 else "front")
    shirt, trousers = tint(rng), tint(rng)
    hip, phase = tall * 0.5, rng.uniform(0, 6.28)
    amplitude = 0.5 if speed else 0.05
    atlas, kw = town.atlas, {"body": body, "axis": (1.0, 0.0, 0.0), "side": side}
    board(
        scene,
        -0.21 * tall,
        ground - tall,
        0.42 * tall,
        tall - hip + 0.04,
        atlas.pick(rng, f"torso_{view}"),
        PERSON,
        tint=shirt,
        **kw,
    )
    leg, arm = atlas.pick(rng, "leg"), atlas.pick(rng, "arm")
    for k, sway in ((-1, phase), (1, phase + np.pi)):
        spread = 0.0 if side else 0.055 * tall
        hinge = (k * 0.02, ground - hip, k * spread) if side else (k * spread, ground - hip, 0.02)
        board(
            scene,
            k * spread - 0.065 * tall,
            ground - hip,
            0.13 * tall,
            hip,
            leg,
            PERSON,
            z=k * 0.02 if side else 0.02,
            tint=trousers * (1.0 if k > 0 else 0.85),
            hinge=hinge,
            swing=(amplitude, sway),
            **kw,
        )
        spread = 0.0 if side else 0.155 * tall
        top = ground - tall * 0.81
        hinge = (k * 0.12, top, k * spread) if side else (k * spread, top, -0.03)
        board(
            scene,
            k * spread - 0.045 * tall,
            top,
            0.09 * tall,
            0.36 * tall,
            arm,
            PERSON,
            z=k * 0.12 if side else -0.03,
            tint=shirt * 0.9,
            hinge=hinge,
            swing=(amplitude * 0.8, sway + np.pi),
            **kw,
        )


def cycle(
    rng: Rng,
    scene: Scene,
    town: Town,
    kind: str,
    x: float,
    z: float,
    *,
    yaw: float,
    speed: float,
    rider: bool,
    ground: float = 0.0,
):
    """Adds a bicycle or motorcycle, with or without its rider."""
    label = BICYCLE if kind == "bicycle" else MOTORCYCLE
    length, height, narrow = (1.75, 1.04, 0.62) if kind == "bicycle" else (2.1, 1.2, 0.85)
    velocity = speed * np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    body = scene.body(
        Body(
            np.array([x, 0.0, z]), velocity, yaw, swing=speed * 3.0, footprint=(0.2, length / 2, 1.5 if rider else 0.8)
        )
    )
    colour, atlas = tint(rng), town.atlas
    kw = {"body": body, "tint": colour}
    board(scene, -length / 2, ground - height, length, height, atlas.pick(rng, kind), label, side=True, **kw)
    across = abs(np.sin(yaw)) > 0.7
    if not across:
        board(scene, -narrow / 2, ground - height, narrow, height, atlas.pick(rng, f"{kind}_rear"), label, z=-0.2, **kw)
    if not rider:
        return
    seat = 0.86 if kind == "bicycle" else 0.78
    view = "side" if across else ("back" if np.cos(yaw) > 0 else "front")
    kw = {"body": body, "side": across}
    name = f"rider_{view}" if rng.random() < 0.7 or kind == "motorcycle" else f"torso_{view}"
    shirt, trousers = tint(rng), tint(rng)
    board(
        scene,
        -0.4 - 0.05 * across,
        ground - seat - 0.92,
        0.8,
        0.98,
        atlas.pick(rng, name),
        RIDER,
        z=-0.24 if not across else 0.0,
        tint=shirt,
        **kw,
    )
    leg, phase = atlas.pick(rng, "leg"), rng.uniform(0, 6.28)
    for k, sway in ((-1, phase), (1, phase + np.pi)):
        offset = 0.0 if across else k * 0.14
        depth = k * 0.1 if across else -0.22
        hinge = (depth, ground - seat, offset) if across else (offset, ground - seat, depth)
        board(
            scene,
            offset - 0.1,
            ground - seat,
            0.2,
            seat * 0.86,
            leg,
            RIDER,
            z=depth,
            tint=trousers,
            hinge=hinge,
            axis=(1.0, 0.0, 0.0),
            swing=(0.35 if kind == "bicycle" and speed else 0.02, sway),
            **kw,
        )
        if across:  # arms to the handlebar
            scene.add(
                (depth, ground - seat - 0.56, 0.0),
                (0, 0.45, 0.5),
                (0, 0.1, -0.09),
                atlas.pick(rng, "arm"),
                RIDER,
                body=body,
                tint=shirt,
            )
