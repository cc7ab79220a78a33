"""The renderer's input: a scene in its weather, seen by a camera, with the textures of its town."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_builders.synthetic_street.engine.atlas import Atlas
from data_builders.synthetic_street.engine.camera import Camera
from data_builders.synthetic_street.engine.scene import Scene


@dataclasses.dataclass(frozen=True)
class Weather:
    """Light of a sequence.

    sky: one of `town.SKIES`.
    sun: unit vector from the ground to the sun.
    sun_colour, ambient: factors by channel.
    haze: share of light lost per metre.
    haze_colour: 0..255.
    """

    sky: str
    sun: np.ndarray
    sun_colour: np.ndarray
    ambient: np.ndarray
    haze: float
    haze_colour: np.ndarray
    shadow: float  # share of light that a cast shadow takes away
    brightness: float  # mean of the developed picture, 0..1, that the camera aims at
    gamma: float


@dataclasses.dataclass(frozen=True)
class Town:
    """A town: the atlas of its textures, and its vehicles by kind (see `vehicles.add_vehicles`)."""

    atlas: Atlas
    fleet: dict[str, list]


@dataclasses.dataclass(frozen=True)
class Street:
    """A street with its weather, camera and town."""

    scene: Scene
    weather: Weather
    camera: Camera
    town: Town
