"""Things that stand or move in a street, put together from rectangles. Sizes in metres; local x right, y down, z ahead."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_street.scene import WORLD, Body, Scene
from data_builders.synthetic_street.surfaces import Rng
from data_builders.synthetic_street.town import Town

# Cityscapes train ids in their published order; 255 = not labelled.
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN, SKY_CLASS, PERSON, RIDER, CAR, TRUCK, BUS,
 TRAIN, MOTORCYCLE, BICYCLE) = range(19)  # fmt: skip
VOID = 255

# Colours of made things, shared by buildings, walls, vehicles and clothes, so that a colour says little about the class.
_MADE = np.array([
    (0.93, 0.92, 0.9), (0.86, 0.82, 0.72), (0.78, 0.68, 0.54), (0.7, 0.48, 0.38), (0.6, 0.3, 0.24), (0.5, 0.36, 0.28),
    (0.62, 0.62, 0.62), (0.45, 0.46, 0.48), (0.3, 0.31, 0.33), (0.16, 0.16, 0.18), (0.9, 0.8, 0.5), (0.86, 0.62, 0.28),
    (0.5, 0.56, 0.42), (0.34, 0.44, 0.3), (0.46, 0.56, 0.66), (0.26, 0.36, 0.54), (0.16, 0.24, 0.4), (0.7, 0.16, 0.16),
    (0.8, 0.72, 0.66), (0.66, 0.72, 0.72), (0.56, 0.5, 0.42), (0.4, 0.6, 0.6),
])  # fmt: skip
_LEAF = np.array([(0.42, 0.56, 0.26), (0.32, 0.46, 0.22), (0.5, 0.58, 0.3), (0.26, 0.38, 0.24), (0.62, 0.6, 0.3), (0.74, 0.56, 0.24),
                  (0.66, 0.4, 0.24), (0.38, 0.46, 0.36)])  # fmt: skip
_EARTH = np.array([(0.44, 0.56, 0.28), (0.54, 0.58, 0.34), (0.64, 0.58, 0.38), (0.6, 0.5, 0.38), (0.36, 0.48, 0.26)])
_STONE = np.array([(0.5, 0.5, 0.51), (0.42, 0.42, 0.44), (0.58, 0.57, 0.55), (0.36, 0.36, 0.38), (0.54, 0.5, 0.46)])
_PAVING = np.array([(0.66, 0.65, 0.63), (0.56, 0.55, 0.54), (0.72, 0.66, 0.58), (0.64, 0.5, 0.44), (0.48, 0.48, 0.5)])
_PALETTES = {"made": _MADE, "leaf": _LEAF, "earth": _EARTH, "stone": _STONE, "paving": _PAVING}


def tint(rng: Rng, palette: str = "made", spread: float = 0.06) -> np.ndarray:
    """A random colour (3,), 0..1, near one of a palette."""
    options = _PALETTES[palette]
    colour = options[int(rng.integers(len(options)))] * rng.uniform(0.85, 1.12)
    return np.clip(colour + rng.normal(0, spread * 0.5, 3), 0.04, 1.0)


def _board(
    scene: Scene,
    x: float,
    y: float,
    w: float,
    h: float,
    texture: int,
    label: int,
    *,
    z: float = 0.0,
    side: bool = False,
    **kw,
):
    """An upright rectangle with its upper left corner at (x, y), in the local x-y plane, or y-z plane when `side`."""
    if side:
        scene.add((z, y, x), (0, 0, w), (0, h, 0), texture, label, **kw)
    else:
        scene.add((x, y, z), (w, 0, 0), (0, h, 0), texture, label, **kw)


def box(scene: Scene, lo, hi, texture: int, label: int, *, texel: float, **kw) -> None:
    """Five faces of an axis-parallel box (no floor); lo and hi are its corners, texel the metres one texture covers."""
    (x0, y0, z0), (x1, y1, z1) = lo, hi
    w, h, d = x1 - x0, y1 - y0, z1 - z0
    across, along = (w / texel, h / texel), (d / texel, h / texel)
    scene.add((x0, y0, z0), (w, 0, 0), (0, h, 0), texture, label, repeat=across, **kw)
    scene.add((x0, y0, z1), (w, 0, 0), (0, h, 0), texture, label, repeat=across, **kw)
    scene.add((x0, y0, z0), (0, 0, d), (0, h, 0), texture, label, repeat=along, **kw)
    scene.add((x1, y0, z0), (0, 0, d), (0, h, 0), texture, label, repeat=along, **kw)
    scene.add((x0, y0, z0), (w, 0, 0), (0, 0, d), texture, label, repeat=(w / texel, d / texel), **kw)


def tree(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, height: float, ground: float) -> None:
    """A tree of two or three layers of foliage that shift against each other as the camera moves."""
    width = height * rng.uniform(0.78, 0.95)
    colour = tint(rng, "leaf", 0.1)
    body = scene.body(
        Body(
            np.array([x, 0.0, z]),
            yaw=rng.uniform(-0.3, 0.3),
            footprint=(width * 0.33, width * 0.33, height * 0.64),
            round=True,
        )
    )
    _board(
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
        _board(scene, -width / 2 * s + rng.normal(0, 0.35), ground - height * rng.uniform(0.97, 1.06), width * s, height * s,
               town.atlas.pick(rng, "crown"), VEGETATION, z=0.7 * (k + 1), body=body, tint=colour * 0.8)  # fmt: skip


def bush(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """A shrub."""
    h = rng.uniform(0.7, 1.7)
    w = h * rng.uniform(1.3, 2.0)
    _board(
        scene, x - w / 2, ground - h, w, h, town.atlas.pick(rng, "bush"), VEGETATION, z=z, tint=tint(rng, "leaf", 0.1)
    )


def strip(rng: Rng, scene: Scene, town: Town, kind: str, start, end, *, ground: float) -> None:
    """A wall, fence or hedge between two points (x, z) on the ground."""
    (x0, z0), (x1, z1) = start, end
    length = float(np.hypot(x1 - x0, z1 - z0))
    if length < 0.5:
        return
    if kind == "wall":
        h, label, texel, colour = rng.uniform(1.3, 2.8), WALL, 2.4, tint(rng)
    elif kind == "fence":
        h, label, texel, colour = rng.uniform(1.0, 1.9), FENCE, 2.6, tint(rng)
    else:
        h, label, texel, colour = rng.uniform(0.9, 2.2), VEGETATION, 3.0, tint(rng, "leaf", 0.1)
    right = np.array([x1 - x0, 0.0, z1 - z0])
    texture = town.atlas.pick(rng, kind)
    scene.add((x0, ground - h, z0), right, (0, h, 0), texture, label, repeat=(length / texel, 1.0 if kind != "wall" else h / texel),
              tint=colour, fade=(1.05, 0.72))  # fmt: skip
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


def post(
    rng: Rng, scene: Scene, town: Town, x: float, z: float, *, height: float, ground: float, width: float, colour=None
) -> None:
    """A round post, as a board that faces the street's direction."""
    colour = tint(rng, "stone") if colour is None else colour
    texture = town.atlas.pick(rng, "metal")
    _board(scene, x - width / 2, ground - height, width, height, texture, POLE, z=z, tint=colour)


def lamp(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """A street lamp with an arm over the road."""
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
    """One or two traffic signs on a post."""
    h, colour = rng.uniform(2.5, 3.2), tint(rng, "stone")
    size = size or rng.uniform(0.65, 0.95)
    post(rng, scene, town, x, z, height=h, ground=ground, width=0.09, colour=colour)
    for k in range(int(rng.integers(1, 3))):
        _board(
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
    """A traffic light on its post, sometimes with a second one on an arm over the road."""
    colour = tint(rng, "stone")
    h, size = rng.uniform(3.0, 3.6), rng.uniform(0.95, 1.2)
    texture = town.atlas.pick(rng, "light")
    post(rng, scene, town, x, z, height=h, ground=ground, width=0.14, colour=colour)
    _board(scene, x - size * 0.2, ground - h - 0.1, size * 0.4, size, texture, LIGHT, z=z - 0.12)
    if rng.random() < 0.5:
        reach = -np.sign(x) * rng.uniform(2.5, 4.0)
        post(rng, scene, town, x, z, height=5.4, ground=ground, width=0.16, colour=colour)
        scene.add((x, ground - 5.4, z), (reach, 0, 0), (0, 0.12, 0), town.atlas.pick(rng, "metal"), POLE, tint=colour)
        _board(scene, x + reach - size * 0.22, ground - 5.5, size * 0.44, size * 1.1, texture, LIGHT, z=z - 0.12)


def vehicle(
    rng: Rng, scene: Scene, town: Town, kind: str, x: float, z: float, *, yaw: float, speed: float, turn: float = 0.0
) -> None:
    """A car, truck, bus or tram, centred at (x, z), heading yaw, moving at `speed` metres a frame."""
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
    """Somebody who walks (legs and arms swing) or stands."""
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
    _board(
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
        _board(scene, k * spread - 0.065 * tall, ground - hip, 0.13 * tall, hip, leg, PERSON, z=k * 0.02 if side else 0.02,
               tint=trousers * (1.0 if k > 0 else 0.85), hinge=hinge, swing=(amplitude, sway), **kw)  # fmt: skip
        spread = 0.0 if side else 0.155 * tall
        top = ground - tall * 0.81
        hinge = (k * 0.12, top, k * spread) if side else (k * spread, top, -0.03)
        _board(scene, k * spread - 0.045 * tall, top, 0.09 * tall, 0.36 * tall, arm, PERSON, z=k * 0.12 if side else -0.03,
               tint=shirt * 0.9, hinge=hinge, swing=(amplitude * 0.8, sway + np.pi), **kw)  # fmt: skip


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
    """A bicycle or motorcycle, with or without its rider."""
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
    _board(scene, -length / 2, ground - height, length, height, atlas.pick(rng, kind), label, side=True, **kw)
    across = abs(np.sin(yaw)) > 0.7
    if not across:
        _board(
            scene, -narrow / 2, ground - height, narrow, height, atlas.pick(rng, f"{kind}_rear"), label, z=-0.2, **kw
        )
    if not rider:
        return
    seat = 0.86 if kind == "bicycle" else 0.78
    view = "side" if across else ("back" if np.cos(yaw) > 0 else "front")
    kw = {"body": body, "side": across}
    name = f"rider_{view}" if rng.random() < 0.7 or kind == "motorcycle" else f"torso_{view}"
    shirt, trousers = tint(rng), tint(rng)
    _board(
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
        _board(scene, offset - 0.1, ground - seat, 0.2, seat * 0.86, leg, RIDER, z=depth, tint=trousers, hinge=hinge, axis=(1.0, 0.0, 0.0),
               swing=(0.35 if kind == "bicycle" and speed else 0.02, sway), **kw)  # fmt: skip
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
    """A house whose front stands at x and faces the street; side is -1 (left) or 1 (right)."""
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
        scene.add(start, right, (0, low, 0), base if k == 0 else upper, BUILDING, repeat=(span / shop, 1.0 if k == 0 else 0.39),
                  tint=below, fade=(1.0, 0.78))  # fmt: skip
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
        scene.add(eave + (side * back, -rise, 0), (0, 0, length + 0.4), (-side * back, rise, 0), atlas.pick(rng, "roof"), BUILDING,
                  repeat=(length / 4, back / 4), tint=tint(rng))  # fmt: skip
        box(scene, (x + side * 2 - 0.4, top - rise - 0.6, z0 + 1), (x + side * 2 + 0.4, top, z0 + 1.8), atlas.pick(rng, "wall"), BUILDING,
            texel=2.0, tint=below)  # fmt: skip
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


def clutter(rng: Rng, scene: Scene, town: Town, x: float, z: float, *, ground: float) -> None:
    """Things without a class: bins, boxes, benches."""
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
