"""The pinhole camera on the ego vehicle: intrinsics and its path."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera and its path: pixel centres at whole numbers, x right, y down, focal length in pixels.

    Path over time t in frames, in metres and radians: position(t) = start + t * (drift, 0, speed) + sway in height.
    Yaw, pitch and roll are mean + amplitude * sin(rate * t + phase).
    """

    height: int
    width: int
    focal: float
    start: tuple[float, float, float]
    speed: float
    drift: float  # metres sideways per frame
    mean: tuple[float, float, float]  # yaw, pitch, roll
    wobble: tuple[float, float, float, float]  # amplitude of yaw, pitch, roll (radians) and height (metres)
    rate: tuple[float, float, float, float]  # radians per frame
    phase: tuple[float, float, float, float]

    def matrix(self) -> np.ndarray:
        """Returns the intrinsics, (3, 3)."""
        return np.array([[self.focal, 0, (self.width - 1) / 2], [0, self.focal, (self.height - 1) / 2], [0, 0, 1.0]])

    def pose(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns (rotation world -> camera (3, 3), position (3,)) at time t."""
        swing = [a * np.sin(r * t + p) for a, r, p in zip(self.wobble, self.rate, self.phase)]
        yaw, pitch, roll = (m + s for m, s in zip(self.mean, swing))
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        place = np.array(self.start) + t * np.array([self.drift, 0.0, self.speed]) + np.array([0.0, swing[3], 0.0])
        return about_z @ about_x @ about_y, place
