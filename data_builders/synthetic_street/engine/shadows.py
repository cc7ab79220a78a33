"""Shadows on the ground: a map of the street from above, drawn from the bodies' footprints and read for each sample."""

from __future__ import annotations

import cv2
import numpy as np

from data_builders.synthetic_street.engine.scene import Body
from data_builders.synthetic_street.engine.world import Street

_PX = 5.0  # map pixels per metre
_LEFT, _REAR, _WIDE, _LONG = -30.0, -6.0, 60.0, 110.0  # metres covered: x from _LEFT, z from _REAR
_CONTACT = 0.5  # share of light that is missing under a body


class ShadowMap:
    """Map of the light that reaches the ground of one street, 1 = all."""

    def __init__(self, street: Street):
        self._street = street
        self._ground = street.scene.ground.astype(np.float32)
        sun = street.weather.sun
        self._throw = -sun[[0, 2]] / max(-sun[1], 0.25)  # metres of shadow per metre of height
        bodies = [b for b in street.scene.bodies if b.footprint is not None]
        self._moving = [b for b in bodies if b.velocity.any()]
        still = [b for b in bodies if not b.velocity.any()]
        self._still = np.zeros((round(_LONG * _PX), round(_WIDE * _PX)), np.uint8)
        self._draw(self._still, still, 0.0)

    def _draw(self, image: np.ndarray, bodies: list[Body], t: float) -> None:
        cast = round(255 * self._street.weather.shadow)
        contact = round(255 * _CONTACT)
        prints = []
        for body in bodies:
            (x, _, z), yaw = body.pose(t)
            w, l, h = body.footprint
            if body.round:
                a = np.linspace(0, 2 * np.pi, 14, endpoint=False)
                crown = np.stack([x + w * np.cos(a), z + l * np.sin(a)], axis=-1) + h * self._throw
                self._fill(image, crown, cast)
                foot = np.array([[-0.1, 0], [0.1, 0]]) + (x, z)
                self._fill(image, np.concatenate([foot, foot + h * self._throw]), cast)
                continue
            corner = np.array([(-w, -l), (w, -l), (w, l), (-w, l)])
            c, s = np.cos(yaw), np.sin(yaw)
            foot = np.stack([x + corner[:, 0] * c + corner[:, 1] * s, z - corner[:, 0] * s + corner[:, 1] * c], axis=-1)
            self._fill(image, np.concatenate([foot, foot + h * self._throw]), cast)
            prints.append(foot)
        for foot in prints:
            self._fill(image, foot, max(cast, contact))

    def _fill(self, image: np.ndarray, points: np.ndarray, value: int) -> None:
        hull = cv2.convexHull(((points - (_LEFT, _REAR)) * _PX).astype(np.float32))
        cv2.fillConvexPoly(image, np.round(hull * 16).astype(np.int32), value, cv2.LINE_AA, 4)

    def shade(self, t: float, ids: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Returns a factor of the light for each sample, (rows, columns) float32.

        t: time in frames.
        ids: (rows, columns), rectangle of each sample.
        xs, ys: (columns,) and (rows,), positions of the samples in pixels.
        """
        camera = self._street.camera
        image = self._still.copy()
        self._draw(image, self._moving, t)
        image = cv2.GaussianBlur(image, (0, 0), 0.8 if self._street.weather.shadow > 0.2 else 2.2)
        out = np.ones(ids.shape, np.float32)
        top = int(np.argmax(np.take(self._ground, ids).any(axis=1)))  # no ground above the horizon
        rotation, place = camera.pose(t)
        # ground plane y = -0.05: ray = R^T K^-1 (x, y, 1), met at -(place_y + 0.05) / ray_y
        ray = rotation.T @ np.linalg.inv(camera.matrix())
        x, y = xs.astype(np.float32)[None], ys[top:].astype(np.float32)[:, None]
        rx, ry, rz = (np.float32(ray[k, 0]) * x + (np.float32(ray[k, 1]) * y + np.float32(ray[k, 2])) for k in range(3))
        reach = np.float32(-0.05 - place[1]) / np.maximum(ry, 1e-4)
        column = (np.float32(place[0] - _LEFT) + rx * reach) * np.float32(_PX) - 0.5
        line = (np.float32(place[2] - _REAR) + rz * reach) * np.float32(_PX) - 0.5
        value = cv2.remap(image, column, line, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        out[top:] -= value.astype(np.float32) * (1 / 255) * np.take(self._ground, ids[top:])
        return out
