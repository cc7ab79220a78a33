"""The renderer: a z-buffer of rectangles by inverse homographies, deferred shading from the atlas, exact flow.

A rectangle's pixel (x, y) and its place (u, v) in the texture are related by the homography H = K [right down origin]
in camera coordinates: z (x, y, 1) = H (u, v, 1). So H^-1 (x, y, 1) = (u, v, 1) / z contains both place and depth. The
pixel of frame t is at H' H^-1 (x, y, 1) in frame t-1; H' is the homography of the same rectangle in that frame.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from data_builders.synthetic_street.engine.atlas import LEVELS
from data_builders.synthetic_street.engine.scene import EGO, SKY
from data_builders.synthetic_street.engine.shadows import ShadowMap
from data_builders.synthetic_street.engine.world import Street
from data_builders.synthetic_street.engine.zbuffer import Cutouts, visible_ids

_NEAR = 0.25  # metres
_SKY_DEPTH = 500.0  # metres; farther textures have their haze painted in


@dataclasses.dataclass
class View:
    """A frame before shading, of n rectangles.

    time: in frames.
    homography, to_plane: (n, 3, 3), H and H^-1.
    ids: (2h+1, 2w+1) int32, the rectangle at every half pixel; the first sample is at -0.5.
    """

    time: float
    homography: np.ndarray
    to_plane: np.ndarray
    ids: np.ndarray

    @property
    def pixel_ids(self) -> np.ndarray:
        """The rectangle at every pixel centre, (h, w) int32."""
        return self.ids[1::2, 1::2]


class Renderer:
    """Renderer of one street: `view(t)` computes visibility, from which `shade`, `labels` and `flow` are computed."""

    def __init__(self, street: Street):
        self.street = street
        scene, camera, atlas = street.scene, street.camera, street.town.atlas
        self.xs = np.arange(-0.5, camera.width, 0.5)
        self.ys = np.arange(-0.5, camera.height, 0.5)
        rect = atlas.rect[scene.texture]
        self._rect = rect
        self._texels = np.abs(rect[:, 2] * scene.repeat[:, 0] * rect[:, 3] * scene.repeat[:, 1])
        self._cutouts = Cutouts.of(atlas, scene.texture, scene.repeat)
        self._light = self._illuminate()
        self._shadows = ShadowMap(street)

    def _illuminate(self) -> np.ndarray:
        """Returns the light on every rectangle, (n, 3): sky, and sun by the angle of the side that faces the camera."""
        scene, weather = self.street.scene, self.street.weather
        corner = scene.at(0.0)
        normal = np.cross(corner[:, :, 0], corner[:, :, 1])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        centre = corner @ np.array([0.5, 0.5, 1.0])
        toward = np.array(self.street.camera.start) - centre
        normal *= np.where((normal * toward).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
        lambert = np.clip(normal @ weather.sun, 0, 1)
        up = 0.85 + 0.15 * np.clip(-normal[:, 1], 0, 1)
        light = up[:, None] * weather.ambient + (0.12 + 0.88 * lambert)[:, None] * weather.sun_colour
        return np.where(scene.lit[:, None], light, 1.0)

    def view(self, t: float) -> View:
        """Returns the rectangles that are visible at time t."""
        scene, camera = self.street.scene, self.street.camera
        rotation, place = camera.pose(t)
        corner = scene.at(t)
        world = scene.body_index != EGO
        corner[world & (scene.body_index != SKY), :, 2] -= place
        corner[world] = rotation @ corner[world]
        homography = camera.matrix() @ corner
        singular = np.abs(np.linalg.det(homography)) < 1e-9
        to_plane = np.linalg.inv(np.where(singular[:, None, None], np.eye(3), homography))
        boxes = self._boxes(homography)
        boxes[singular] = 0
        return View(t, homography, to_plane, visible_ids(to_plane, boxes, self.xs, self.ys, self._cutouts))

    def _boxes(self, homography: np.ndarray) -> np.ndarray:
        """Returns sample ranges x0, x1, y0, y1, (n, 4), that enclose each rectangle in front of the camera."""
        unit = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1.0]])
        points = np.einsum("nij,kj->nki", homography, unit)  # (n, 4 corners, 3)
        following = np.roll(points, -1, axis=1)
        z0, z1 = points[..., 2], following[..., 2]
        crosses = (z0 < _NEAR) != (z1 < _NEAR)
        share = np.where(crosses, _NEAR - z0, 0) / np.where(crosses, z1 - z0, 1)
        cut = points + share[..., None] * (following - points)  # points at which an edge passes the near plane
        cut[~crosses] = np.nan
        points[z0 < _NEAR] = np.nan
        points = np.concatenate([points, cut], axis=1)
        with np.errstate(invalid="ignore"):
            xy = points[..., :2] / points[..., 2:]
        low = np.min(np.where(np.isnan(xy), np.inf, xy), axis=1)
        high = np.max(np.where(np.isnan(xy), -np.inf, xy), axis=1)
        size = np.array([len(self.xs), len(self.ys)])
        first = np.clip(np.ceil(np.clip(low, -1e6, 1e6) * 2 + 1), 0, size)
        last = np.clip(np.floor(np.clip(high, -1e6, 1e6) * 2 + 1) + 1, 0, size)
        return np.stack([first[:, 0], last[:, 0], first[:, 1], last[:, 1]], axis=-1).astype(np.int64)

    def shade(self, view: View) -> np.ndarray:
        """Returns the light on the sensor, (h, w, 3) float32 RGB, from 0 to about 255.

        A pixel is the mean of 3 x 3 samples with the weights [1 2 1] x [1 2 1].
        """
        scene, weather, atlas = self.street.scene, self.street.weather, self.street.town.atlas
        ids = view.ids.astype(np.intp)
        x, y = self.xs.astype(np.float32)[None], self.ys.astype(np.float32)[:, None]
        per = lambda values: np.take(np.ascontiguousarray(values, dtype=np.float32), ids, mode="clip")  # noqa: E731
        # rows of H^-1 for places in repeats of the texture, moved slightly inside it, so that rounding does not wrap
        # around
        rows = view.to_plane.copy()
        rows[:, :2] = (rows[:, :2] * (1 - 1e-5) + 5e-6 * rows[:, 2:]) * scene.repeat[:, :, None]
        a0, a1, a2, b0, b1, b2, c0, c1, c2 = (per(column) for column in rows.reshape(-1, 9).T)
        depth = 1 / np.maximum(c0 * x + c1 * y + c2, 1e-6)
        s = (a0 * x + a1 * y + a2) * depth
        t = (b0 * x + b1 * y + b2) * depth
        fade = per(scene.fade[:, 0]) + per((scene.fade[:, 1] - scene.fade[:, 0]) / scene.repeat[:, 1]) * t
        s -= np.floor(s)
        t -= np.floor(t)
        # footprint of a sample in texels: |det of d(u, v)/d(x, y)| = |det H^-1| / c^3
        area = per(np.abs(np.linalg.det(view.to_plane)) * self._texels * 0.25) * depth * depth * depth
        level = np.clip(np.rint(0.5 * np.log2(np.maximum(area, 1e-6)) - 0.1), 0, LEVELS - 1).astype(np.int32)
        scale = np.take((0.5 ** np.arange(LEVELS)).astype(np.float32), level)
        column = (per(self._rect[:, 0]) + s * per(self._rect[:, 2])) * scale - 0.5
        line = (per(self._rect[:, 1]) + t * per(self._rect[:, 3])) * scale - 0.5 + np.take(atlas.level_row, level)
        texel = cv2.remap(atlas.image, column, line, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        fade *= self._shadows.shade(view.time, ids, self.xs, self.ys)
        clear = np.where(depth < _SKY_DEPTH, np.exp(np.float32(-weather.haze) * depth), np.float32(1))
        share = texel[..., 3].astype(np.float32) * (1 / 255)
        out = np.empty((*ids.shape, 3), np.float32)
        lit = self._light
        for k in range(3):
            colour = texel[..., k] * (per(lit[:, k]) + per(lit[:, k] * (scene.tint[:, k] - 1)) * share) * fade
            haze = weather.haze_colour[k]
            out[..., k] = haze + (colour - haze) * clear
        kernel = np.array([0.25, 0.5, 0.25], np.float32)
        return np.clip(cv2.sepFilter2D(out, -1, kernel, kernel)[1::2, 1::2], 0, None)

    def exposure(self, light: np.ndarray) -> float:
        """Returns the gain with which an image has the camera's target brightness."""
        return float(np.clip(self.street.weather.brightness * 255 / light.mean(), 0.6, 1.8))

    def develop(self, light: np.ndarray, gain: float) -> np.ndarray:
        """Returns the image after gain, compressed highlights and tone curve, (h, w, 3) float32 in 0..255."""
        out = light * (gain / 255)
        out = np.where(out < 0.8, out, 1 - 0.2 * np.exp(-(out - 0.8) / 0.2))
        return (255 * out**self.street.weather.gamma).astype(np.float32)

    def labels(self, view: View) -> np.ndarray:
        """Returns the train ids at the pixel centres, (h, w) uint8."""
        return self.street.scene.label[view.pixel_ids]

    def flow(self, view: View, before: View) -> tuple[np.ndarray, np.ndarray]:
        """Returns (flow (h, w, 2) float32, visible (h, w) bool).

        Pixel (x, y) of `view` is at (x + u, y + v) in `before`. It is visible if that place is inside the image and the
        nearest pixel of `before` shows the same rectangle.
        """
        ids, height, width = view.pixel_ids, self.street.camera.height, self.street.camera.width
        chain = before.homography @ view.to_plane  # (n, 3, 3)
        chain = chain.reshape(-1, 9)[ids]
        x, y = np.arange(width, dtype=np.float64)[None], np.arange(height, dtype=np.float64)[:, None]
        px, py, pz = (chain[..., 3 * k] * x + chain[..., 3 * k + 1] * y + chain[..., 3 * k + 2] for k in range(3))
        front = pz > 1e-6
        pz = np.where(front, pz, 1.0)
        px, py = px / pz, py / pz
        column, line = np.rint(px), np.rint(py)
        inside = front & (column >= 0) & (column <= width - 1) & (line >= 0) & (line <= height - 1)
        column, line = np.where(inside, column, 0).astype(np.int64), np.where(inside, line, 0).astype(np.int64)
        visible = inside & (before.pixel_ids[line, column] == ids)
        flow = np.stack([np.where(front, px - x, 0.0), np.where(front, py - y, 0.0)], axis=-1)
        return flow.astype(np.float32), visible
