"""Scenes: textured rectangles on rigid bodies that move.

World: x right, y down (the road is y = 0), z along the street, in metres. A rectangle maps (u, v) in [0, 1]^2, v
downwards, to origin + u * right + v * down in the coordinates of its body.
"""

from __future__ import annotations

import dataclasses

import numpy as np

WORLD, SKY, EGO = 0, 1, 2  # bodies: the town, the infinitely far, and all that is fixed to the camera


@dataclasses.dataclass
class Body:
    """Rigid motion over time t in frames. A body that turns moves on a circle.

    position: (3,) in metres, at t = 0.
    velocity: (3,) in metres per frame.
    yaw: heading in radians, 0 = along +z.
    turn: radians per frame.
    swing: radians per frame of its limbs' phase.
    footprint: half width, half length and height of its shadow in metres, None for no shadow.
    round: whether the shadow is an ellipse cast from that height (a tree's crown).
    """

    position: np.ndarray
    velocity: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    yaw: float = 0.0
    turn: float = 0.0
    swing: float = 0.0
    footprint: tuple[float, float, float] | None = None
    round: bool = False

    def pose(self, t: float) -> tuple[np.ndarray, float]:
        """Returns (position (3,), yaw) at time t."""
        if abs(self.turn) < 1e-9:
            return self.position + t * self.velocity, self.yaw
        speed = float(np.hypot(self.velocity[0], self.velocity[2])) / self.turn
        yaw = self.yaw + t * self.turn
        step = (np.cos(self.yaw) - np.cos(yaw), 0.0, np.sin(yaw) - np.sin(self.yaw))
        return self.position + speed * np.array(step), yaw


class Scene:
    """Rectangles and bodies; `freeze` turns the lists into arrays.

    After `freeze`, with n rectangles: corner (n, 3, 3), columns right, down, origin; body_index, texture, label (n,);
    repeat (n, 2); tint (n, 3); fade (n, 2), brightness at the upper and lower edge; ground, lit (n,) bool; hinge and
    axis (n, 3); swing (n, 2), amplitude in radians and phase.
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
        """Adds a rectangle.

        origin, right, down: (3,) each, see the module.
        texture: index in the atlas.
        label: train id.
        body: index, see `body`.
        repeat: of the texture, across and down.
        tint: colour factors.
        fade: brightness at the upper and lower edge.
        ground: whether shadows fall on it.
        lit: whether sun and sky illuminate it; otherwise it shines as painted.
        hinge, axis: point and direction of the axis about which it swings.
        swing: (amplitude in radians, phase).
        """
        matrix = np.stack([right, down, origin], axis=-1).astype(np.float64)
        self._rows.append((matrix, body, texture, label, repeat, tint, fade, ground, lit, hinge, axis, swing))

    def freeze(self) -> Scene:
        """Turns the lists into arrays and returns itself."""
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
        """Returns world coordinates of all rectangles at time t, (n, 3, 3), columns right, down, origin.

        Rectangles of SKY and EGO do not move.
        """
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
    """Returns rotation matrices (n, 3, 3) about unit axes (n, 3) by angles (n,)."""
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
    """Adds an upright rectangle with its upper left corner at (x, y), in the local x-y plane; if `side`, in y-z."""
    if side:
        scene.add((z, y, x), (0, 0, w), (0, h, 0), texture, label, **kw)
    else:
        scene.add((x, y, z), (w, 0, 0), (0, h, 0), texture, label, **kw)
