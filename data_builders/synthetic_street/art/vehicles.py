"""Vehicles as extruded side profiles: a painted side, and one painted face per edge of the profile."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from data_builders.synthetic_street.engine.atlas import Atlas
from data_builders.synthetic_street.engine.brush import Sprite, canvas, oval, paint
from data_builders.synthetic_street.engine.noise import Rng, fbm

_TYRE, _RUBBER = (22, 22, 23), (38, 38, 40)


@dataclasses.dataclass(frozen=True)
class Vehicle:
    """A vehicle, in metres.

    kind: car, bus, tram or truck.
    profile: points (z, y up) from the lower rear corner over the roof to the lower front corner.
    width: in metres.
    side: texture index of both flanks.
    faces: texture index of each edge of the profile.
    """

    kind: str
    profile: tuple[tuple[float, float], ...]
    width: float
    side: int
    faces: tuple[int, ...]

    @property
    def length(self) -> float:
        """Length along z, in metres."""
        return max(z for z, _ in self.profile)

    @property
    def height(self) -> float:
        """Height above the road, in metres."""
        return max(y for _, y in self.profile)


def _side(rng: Rng, profile, wheels, radius: float, windows, *, px: float, kind: str) -> Sprite:
    length, height = max(z for z, _ in profile), max(y for _, y in profile)
    s = canvas(round(height * px), round(length * px))
    spot = lambda z, y: (z / length, 1 - y / height)  # noqa: E731  metres to shares of the texture
    paint(s, [spot(*p) for p in profile], (205, 205, 205))
    sill = profile[0][1]
    paint(
        s,
        [spot(0.1, sill), spot(length - 0.1, sill), spot(length - 0.1, sill + 0.13), spot(0.1, sill + 0.13)],
        (58, 58, 60),
        0,
    )
    image = s[0]
    h, w = s[1].shape
    shade = np.interp(np.linspace(height, 0, h), [0, sill, height * 0.55, height * 0.62, height], [-60, -50, -5, 26, 8])
    image[..., :3] = np.clip(image[..., :3] + shade[:, None, None] + (3 * fbm(rng, h, w))[..., None], 0, 255)
    for z0, z1, y0, y1, slant0, slant1 in windows:
        tone = rng.uniform(28, 60)
        quad = [spot(z0, y0), spot(z1, y0), spot(z1 - slant1, y1), spot(z0 + slant0, y1)]
        paint(s, quad, (tone, tone * 1.08, tone * 1.15), 0)
        mid = (y0 + y1) / 2
        paint(
            s,
            [spot(z0 + slant0 / 2, mid), spot(z1 - slant1 / 2, mid), spot(z1 - slant1, y1), spot(z0 + slant0, y1)],
            (tone + 42, tone + 50, tone + 58),
            0,
        )
    if kind == "car":
        for z, *_ in windows[1:]:
            paint(s, [spot(z, sill + 0.1), spot(z, profile[1][1])], (110, 110, 110), 200, width=1)
            paint(s, [spot(z + 0.15, 0.78), spot(z + 0.36, 0.78)], (60, 60, 62), 0, width=2)
    if kind in ("bus", "tram"):
        stripe = rng.uniform(40, 235, 3)
        paint(s, [spot(0, 0.75), spot(length, 0.75), spot(length, 0.95), spot(0, 0.95)], stripe, 0)
        for z in np.arange(length * 0.12, length, length / (3 if kind == "bus" else 5)):
            paint(
                s,
                [spot(z, 0.4), spot(z + 1.2, 0.4), spot(z + 1.2, height - 0.75), spot(z, height - 0.75)],
                (70, 80, 88),
                0,
            )
            paint(s, [spot(z + 0.6, 0.4), spot(z + 0.6, height - 0.75)], (180, 180, 180), 0, width=2)
    if kind == "cargo":
        if rng.random() < 0.6:  # lettering of the haulier
            ink = rng.uniform(20, 240, 3)
            for z in np.arange(length * 0.2, length * 0.75, 0.6):
                paint(
                    s,
                    [
                        spot(z, height * 0.62),
                        spot(z + 0.42, height * 0.62),
                        spot(z + 0.42, height * 0.8),
                        spot(z, height * 0.8),
                    ],
                    ink,
                    0,
                )
        for z in np.arange(0.6, length, 0.6):
            paint(s, [spot(z, sill + 0.15), spot(z, height)], (165, 165, 165), 230, width=1)
    paint(s, [spot(0, 0.85), spot(0.12, 0.85), spot(0.12, 0.65), spot(0, 0.65)], (190, 26, 26), 0)
    for z in wheels:
        oval(s, z / length, 1 - radius / height, (radius * 1.12) / length, radius * 1.12 / height, _RUBBER, 0)
        oval(s, z / length, 1 - radius / height, radius / length, radius / height, _TYRE, 0)
        oval(s, z / length, 1 - radius / height, 0.62 * radius / length, 0.62 * radius / height, (160, 162, 165), 0)
        oval(s, z / length, 1 - radius / height, 0.2 * radius / length, 0.2 * radius / height, (60, 60, 62), 0)
    return s


def _end(rng: Rng, kind: str, *, front: bool, clearance: float, h: int = 80, w: int = 112) -> Sprite:
    """Paints rear or front of a vehicle, from the road to the next face: tyres, bumper, lamps, plate, grille."""
    s = canvas(h, w)
    image = s[0]
    if kind != "tram":
        for x in (0.05, 0.8):
            paint(s, [(x, 1 - clearance * 1.5), (x + 0.15, 1 - clearance * 1.5), (x + 0.15, 1), (x, 1)], _TYRE, 0)
    y = 1 - clearance
    paint(s, [(0, 0), (1, 0), (1, y), (0, y)], (200, 200, 200))
    rows = np.linspace(22, -38, h)
    image[..., :3] = np.clip(image[..., :3] + rows[:, None, None] * s[1][..., None], 0, 255)
    paint(s, [(0.02, y - 0.14), (0.98, y - 0.14), (0.98, y), (0.02, y)], (52, 52, 54), 0)
    if kind == "cargo" and not front:
        paint(s, [(0.5, 0.02), (0.5, y - 0.14)], (90, 90, 90), 0, width=2)
        for x in (0.08, 0.92, 0.4, 0.6):
            paint(s, [(x, 0.03), (x, y - 0.14)], (140, 140, 140), 180, width=1)
    if kind in ("bus", "tram", "cab"):
        tone = rng.uniform(30, 60)
        low = 0.55 if front else 0.4
        if front or kind != "cab":
            paint(s, [(0.05, 0.14), (0.95, 0.14), (0.97, low), (0.03, low)], (tone, tone * 1.08, tone * 1.16), 0)
            paint(s, [(0.05, 0.14), (0.95, 0.14), (0.7, 0.3), (0.05, 0.36)], (tone + 55, tone + 62, tone + 70), 0)
        if front and kind != "cab":
            paint(s, [(0.22, 0.03), (0.78, 0.03), (0.78, 0.11), (0.22, 0.11)], (22, 22, 20), 0)
            for x in np.arange(0.27, 0.7, 0.06):
                paint(s, [(x, 0.05), (x + 0.035, 0.05), (x + 0.035, 0.09), (x, 0.09)], (250, 180, 50), 0)
    lamp_y = y - 0.3 if kind in ("bus", "tram", "cab", "cargo") else 0.3
    lamp_h = 0.11 if kind != "car" else rng.uniform(0.14, 0.26)
    width = rng.uniform(0.13, 0.2)
    for x in (0.02, 0.98 - width):
        colour = (244, 243, 230) if front else (188, 24, 26)
        paint(s, [(x, lamp_y), (x + width, lamp_y), (x + width, lamp_y + lamp_h), (x, lamp_y + lamp_h)], colour, 0)
    if front and kind in ("car", "cab"):
        paint(s, [(0.28, lamp_y + 0.02), (0.72, lamp_y + 0.02), (0.68, y - 0.15), (0.32, y - 0.15)], (36, 36, 38), 0)
        oval(s, 0.5, lamp_y + 0.1, 0.035, 0.05, (200, 200, 205), 0)
    if kind in ("car", "cargo", "bus", "cab"):
        paint(s, [(0.37, y - 0.22), (0.63, y - 0.22), (0.63, y - 0.1), (0.37, y - 0.1)], (238, 236, 226), 0)
        paint(s, [(0.41, y - 0.17), (0.59, y - 0.17)], (50, 50, 55), 0, width=3)
    return s


def _glass(rng: Rng, h: int = 48, w: int = 112) -> Sprite:
    s = canvas(h, w)
    paint(s, [(0, 0), (1, 0), (1, 1), (0, 1)], (190, 190, 190))
    tone = rng.uniform(26, 60)
    paint(s, [(0.1, 0.07), (0.9, 0.07), (0.95, 0.95), (0.05, 0.95)], (tone, tone * 1.08, tone * 1.15), 0)
    paint(s, [(0.1, 0.07), (0.9, 0.07), (0.6, 0.5), (0.07, 0.7)], (tone + 50, tone + 58, tone + 66), 0)
    for x in (0.3, 0.7):  # head rests
        oval(s, x, 0.8, 0.07, 0.2, (tone * 0.6, tone * 0.6, tone * 0.6), 0)
    return s


def _sheet(rng: Rng, h: int = 48, w: int = 48) -> np.ndarray:
    image = canvas(h, w)[0]
    image[..., :3] = np.clip(215 + (4 * fbm(rng, h, w))[..., None] + np.linspace(-10, 10, w)[None, :, None], 0, 255)
    return cv2.GaussianBlur(image, (0, 0), 1)


def _solid_only(sprite: Sprite) -> tuple[np.ndarray, np.ndarray | None]:
    return sprite[0], None if sprite[1].all() else sprite[1]


def add_vehicles(rng: Rng, atlas: Atlas) -> dict[str, list]:
    """Paints the vehicles of one town into the atlas, and returns kind -> vehicles for car, bus, tram and truck.

    A truck is a pair of vehicles, load and cab.
    """
    (sheet,) = (atlas.add("sheet", _sheet(rng), tile=True),)

    def build(kind: str, profile, width, roles, wheels, radius, windows, px) -> Vehicle:
        side = atlas.add("side", *_solid_only(_side(rng, profile, wheels, radius, windows, px=px, kind=kind)))
        faces = []
        for role, (_, y0), (_, y1) in zip(roles, profile[:-1], profile[1:]):
            if role == "glass":
                faces.append(atlas.add("glass", *_solid_only(_glass(rng))))
            elif role in ("rear", "front"):
                clearance = min(y0, y1) / max(y0, y1)
                ratio = max(y0, y1) / width
                end = _end(rng, kind, front=role == "front", clearance=clearance, h=round(112 * ratio))
                faces.append(atlas.add("end", *_solid_only(end)))
            else:
                faces.append(sheet)
        return Vehicle(kind, tuple(profile), width, side, tuple(faces))

    fleet: dict[str, list] = {"car": [], "bus": [], "tram": [], "truck": []}
    for shape in ("saloon", "saloon", "hatch", "hatch", "suv", "suv", "van"):
        j = rng.uniform(-0.06, 0.06, 6)
        if shape == "saloon":
            length, top, belt = 4.55 + j[0], 1.43 + j[1], 0.93 + j[2] / 2
            profile = [
                (0, 0.26),
                (0, belt),
                (0.85, belt + 0.05),
                (1.5 + j[3], top),
                (2.85 + j[4], top),
                (3.55, belt),
                (length - 0.05, 0.7),
                (length, 0.26),
            ]
            roles = ["rear", "sheet", "glass", "sheet", "glass", "sheet", "front"]
            cabin = (1.05, 3.4, 0.5 + j[3], 0.55)
        elif shape == "van":
            length, top, belt = 5.1 + j[0], 2.05 + j[1], 1.15
            profile = [
                (0, 0.3),
                (0, belt),
                (0.12, top),
                (3.5 + j[4], top),
                (4.3, belt),
                (length - 0.05, 0.85),
                (length, 0.3),
            ]
            roles = ["rear", "glass", "sheet", "glass", "sheet", "front"]
            cabin = (0.3, 4.1, 0.05, 0.55)
        else:
            length, top, belt = (3.95 + j[0], 1.47 + j[1], 0.95) if shape == "hatch" else (4.5 + j[0], 1.7 + j[1], 1.08)
            profile = [
                (0, 0.27),
                (0, belt),
                (0.5 + j[3], top),
                (length - 1.9, top),
                (length - 1.1, belt),
                (length - 0.05, belt - 0.22),
                (length, 0.27),
            ]
            roles = ["rear", "glass", "sheet", "glass", "sheet", "front"]
            cabin = (0.2, length - 1.25, 0.38, 0.6)
        z0, z1, s0, s1 = cabin
        belt, top = belt + 0.06, top - 0.08
        split = (z0 + z1) / 2 + 0.1
        windows = [(z0, split - 0.06, belt, top, s0, 0.0), (split + 0.02, z1, belt, top, 0.0, s1)]
        fleet["car"].append(build("car", profile, 1.78, roles, (0.78, length - 0.82), 0.33, windows, 50.0))
    for _ in range(3):
        length, top = rng.uniform(10.5, 12.5), rng.uniform(2.95, 3.2)
        profile = [(0, 0.3), (0, top), (length, top), (length, 0.3)]
        windows = [(z, z + 1.25, 1.3, top - 0.55, 0, 0) for z in np.arange(0.4, length - 1.4, 1.4)]
        fleet["bus"].append(
            build("bus", profile, 2.5, ["rear", "sheet", "front"], (2.6, length - 2.6), 0.48, windows, 34.0)
        )
    for _ in range(2):
        length, top = rng.uniform(19, 24), rng.uniform(3.3, 3.5)
        profile = [(0.0, 0.12), (0.25, top), (length - 0.25, top), (length, 0.12)]
        windows = [(z, z + 1.7, 1.35, top - 0.6, 0, 0) for z in np.arange(0.8, length - 2, 1.85)]
        fleet["tram"].append(build("tram", profile, 2.4, ["rear", "sheet", "front"], (), 0.3, windows, 26.0))
    for _ in range(3):
        load, top = rng.uniform(4.5, 7.5), rng.uniform(2.9, 3.6)
        box = [(0, 0.5), (0, top), (load, top), (load, 0.5)]
        cargo = build("cargo", box, 2.45, ["rear", "sheet", "sheet"], (1.0, 2.1), 0.5, [], 34.0)
        high = rng.uniform(2.3, 2.9)
        nose = [(0, 0.4), (0, high), (1.2, high), (1.75, 1.5), (1.85, 0.4)]
        cab = build(
            "cab",
            nose,
            2.3,
            ["sheet", "sheet", "glass", "front"],
            (1.0,),
            0.48,
            [(0.5, 1.6, 1.5, high - 0.3, 0, 0.3)],
            44.0,
        )
        fleet["truck"].append((cargo, cab))
    return fleet
