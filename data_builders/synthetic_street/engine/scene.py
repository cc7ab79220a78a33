"""A scene is a list of textured rectangles on rigid bodies that move; it knows nothing of streets.

World: x right, y down (the road is y = 0), z along the street, metres. A rectangle maps (u, v) in [0, 1]^2, v
downwards, to
origin + u * right + v * down in the coordinates of its body.
"""

from __future__ import annotations

import dataclasses

import numpy as np

WORLD, SKY, EGO = 0, 1, 2  # bodies: the town, what is infinitely far, what is fixed to the camera


@dataclasses.dataclass
class Body:
    """Rigid motion over time t (frames): position + t * velocity, heading yaw (0 = along +z) + t * turn, in radians.

    A body that turns drives on a circle. swing: radians of its limbs' phase per frame. footprint: half width, half
    length
    and height of its shadow, metres, or None; `round`: an elliptic shadow thrown from that height (a tree's crown).
    """

    position: np.ndarray
    velocity: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    yaw: float = 0.0
    turn: float = 0.0
    swing: float = 0.0
    footprint: tuple[float, float, float] | None = None
    round: bool = False

    def pose(self, t: float) -> tuple[np.ndarray, float]:
        """(position (3,), yaw) at time t."""
        if abs(self.turn) < 1e-9:
            return self.position + t * self.velocity, self.yaw
        speed = float(np.hypot(self.velocity[0], self.velocity[2])) / self.turn
        yaw = self.yaw + t * self.turn
        step = (np.cos(self.yaw) - np.cos(yaw), 0.0, np.sin(yaw) - np.sin(self.yaw))
        return self.position + speed * np.array(step), yaw


class Scene:
    """Collects rectangles and bodies; `freeze` turns the lists into arrays.

    After `freeze`, with n rectangles: corner (n, 3, 3) columns right, down, origin; body_index, texture, label (n,);
    repeat (n, 2);
    tint, light (n, 3); fade (n, 2) brightness at the upper and lower edge; ground, lit bool (n,);
    hinge (n, 3), axis (n, 3), swing (n, 2) amplitude in radians and phase.
    """

    def __init__(self):
        self.bodies = [Body(np.zeros(3)) for _ in range(3)]
        self._rows: list[tuple] = []

    def body(self, body: Body) -> int:
        """Adds a moving body and returns its index."""
        self.bodies.append(body)
        return len(self.bodies) - 1

    def add(
        self,
        origin,
        right,
        down,
        texture: int,
        label: int,
        *,
        body: int = WORLD,
        repeat=(1.0, 1.0),
        tint=(1.0, 1.0, 1.0),
        fade=(1.0, 1.0),
        ground: bool = False,
        lit: bool = True,
        hinge=(0.0, 0.0, 0.0),
        axis=(1.0, 0.0, 0.0),
        swing=(0.0, 0.0),
    ) -> None:
        """Adds one rectangle.

        `lit`: sun and sky light fall on it (else it shines as painted);
        `ground`: shadows fall on it; `swing` (amplitude, phase): it swings about `hinge`, direction `axis`.
        """
        matrix = np.stack([right, down, origin], axis=-1).astype(np.float64)
        self._rows.append((matrix, body, texture, label, repeat, tint, fade, ground, lit, hinge, axis, swing))

    def freeze(self) -> Scene:
        """Lists to arrays."""
        columns = list(zip(*self._rows))
        names = [
            "corner",
            "body_index",
            "texture",
            "label",
            "repeat",
            "tint",
            "fade",
            "ground",
            "lit",
            "hinge",
            "axis",
            "swing",
        ]
        for name, column in zip(names, columns):
            setattr(self, name, np.array(column))
        for name in ("repeat", "tint", "fade", "hinge", "axis", "swing"):
            setattr(self, name, getattr(self, name).astype(np.float64))
        self.label = self.label.astype(np.uint8)
        return self

    def at(self, t: float) -> np.ndarray:
        """World coordinates (n, 3, 3) of all rectangles at time t, columns right, down, origin; SKY and EGO stay."""
        corner = self.corner.copy()
        rate = np.array([b.swing for b in self.bodies])[self.body_index]
        moving = np.flatnonzero(self.swing[:, 0])
        if moving.size:
            angle = self.swing[moving, 0] * np.sin(rate[moving] * t + self.swing[moving, 1])
            rotation = _rodrigues(self.axis[moving], angle)
            part = corner[moving]
            part[:, :, 2] -= self.hinge[moving]
            part = rotation @ part
            part[:, :, 2] += self.hinge[moving]
            corner[moving] = part
        poses = [b.pose(t) for b in self.bodies]
        yaw = np.array([p[1] for p in poses])
        place = np.stack([p[0] for p in poses])
        rotation = np.zeros((len(poses), 3, 3))
        rotation[:, 0, 0] = rotation[:, 2, 2] = np.cos(yaw)
        rotation[:, 0, 2], rotation[:, 2, 0] = np.sin(yaw), -np.sin(yaw)
        rotation[:, 1, 1] = 1.0
        moved = np.flatnonzero(self.body_index > EGO)
        node = self.body_index[moved]
        corner[moved] = rotation[node] @ corner[moved]
        corner[moved, :, 2] += place[node]
        return corner


def _rodrigues(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) about unit axes (n, 3)."""
    x, y, z = axis.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + s * cross + (1 - c) * (cross @ cross)


def board(
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
