"""The visible rectangle of every sample of a frame: a z-buffer of inverse depths, exact at the samples.

(u, v, 1) / z = H^-1 (x, y, 1): three planes over the image. A sample is inside if 0 <= u/z, v/z <= 1/z, and the largest
1/z wins. Large rectangles are drawn one by one over their bounding boxes. The many small ones are drawn all at once,
because calls of numpy would take most of their time.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_builders.synthetic_street.engine.atlas import Atlas

_SMALL = 500  # samples of a bounding box


@dataclasses.dataclass
class Cutouts:
    """Holes of n rectangles.

    solid: of the atlas.
    holes: (n,) bool, whether the texture has holes.
    rect: (n, 4), place of the texture in the atlas.
    repeat: (n, 2), of the texture.
    """

    solid: np.ndarray
    holes: np.ndarray
    rect: np.ndarray
    repeat: np.ndarray

    @classmethod
    def of(cls, atlas: Atlas, texture: np.ndarray, repeat: np.ndarray) -> Cutouts:
        """Returns the holes of rectangles with these textures."""
        rect, repeat = atlas.rect[texture].astype(np.float32), repeat.astype(np.float32)
        return cls(atlas.solid, atlas.cutout[texture], rect, repeat)

    def __call__(self, i: int | np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Returns whether rectangle i is solid at (u, v) in [0, 1]; i: one index, or one for each place."""
        tx, ty, tw, th = self.rect[i].T
        ru, rv = self.repeat[i].T
        u, v = u * ru, v * rv
        u, v = np.where(ru == 1, u, u - np.floor(u)), np.where(rv == 1, v, v - np.floor(v))
        column = (np.minimum(u * tw, tw - 1) + tx).astype(np.int32)
        line = (np.minimum(v * th, th - 1) + ty).astype(np.int32)
        return self.solid[line, column]


def visible_ids(
    to_plane: np.ndarray, boxes: np.ndarray, xs: np.ndarray, ys: np.ndarray, cutouts: Cutouts
) -> np.ndarray:
    """Returns the index of the nearest rectangle at each sample, (rows, columns) int32.

    to_plane: (n, 3, 3), H^-1.
    boxes: (n, 4), ranges x0, x1, y0, y1 of the samples that may show a rectangle.
    xs, ys: (columns,) and (rows,), positions of the samples in pixels.
    cutouts: holes of the rectangles.
    """
    xs, ys = xs.astype(np.float32), ys.astype(np.float32)
    inverse_depth = np.zeros((len(ys), len(xs)), np.float32)
    ids = np.zeros(inverse_depth.shape, np.int32)
    area = np.maximum(boxes[:, 1] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 2], 0)
    large = np.flatnonzero(area > _SMALL)
    _draw_large(_near_first(large, to_plane, boxes, xs, ys), to_plane, boxes, xs, ys, cutouts, inverse_depth, ids)
    small = np.flatnonzero((area > 0) & (area <= _SMALL))
    _draw_small(small, to_plane, boxes, xs, ys, cutouts, inverse_depth, ids)
    return ids


def _near_first(
    todo: np.ndarray, to_plane: np.ndarray, boxes: np.ndarray, xs: np.ndarray, ys: np.ndarray
) -> np.ndarray:
    """Returns the rectangles by their nearest depth, so that hidden ones cost a single comparison."""
    x, y = xs[boxes[todo][:, [0, 1, 0, 1]] - [0, 1, 0, 1]], ys[boxes[todo][:, [2, 2, 3, 3]] - [0, 0, 1, 1]]
    row = to_plane[todo, 2]
    nearest = (row[:, :1] * x + row[:, 1:2] * y + row[:, 2:]).max(axis=1)
    return todo[np.argsort(-nearest, kind="stable")]


def _draw_large(todo, to_plane, boxes, xs, ys, cutouts, inverse_depth, ids) -> None:
    rows = to_plane[todo].reshape(-1, 9).astype(np.float32).astype(np.float64).tolist()
    columns = ys[:, None]
    for i, (x0, x1, y0, y1), (m0, m1, m2, m3, m4, m5, m6, m7, m8) in zip(todo.tolist(), boxes[todo].tolist(), rows):
        x, y = xs[x0:x1], columns[y0:y1]
        c = m6 * x + (m7 * y + m8)
        depth = inverse_depth[y0:y1, x0:x1]
        inside = c > depth
        if not inside.any():
            continue
        a = m0 * x + (m1 * y + m2)
        b = m3 * x + (m4 * y + m5)
        inside &= np.minimum(a, b) >= 0
        inside &= np.maximum(a, b) <= c
        if cutouts.holes[i]:
            at = np.flatnonzero(inside)
            k = c.ravel()[at]
            inside.ravel()[at] = cutouts(i, a.ravel()[at] / k, b.ravel()[at] / k)
        np.copyto(depth, c, where=inside)
        np.copyto(ids[y0:y1, x0:x1], i, where=inside)


def _draw_small(todo, to_plane, boxes, xs, ys, cutouts, inverse_depth, ids) -> None:
    x0, x1, y0, y1 = boxes[todo].T
    wide = x1 - x0
    count = wide * (y1 - y0)
    which = np.repeat(np.arange(len(todo)), count)
    number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    line, column = y0[which] + number // wide[which], x0[which] + number % wide[which]
    place = line * len(xs) + column
    x, y, m = xs[column], ys[line], to_plane[todo].reshape(-1, 9).astype(np.float32).T
    c = m[6][which] * x + (m[7][which] * y + m[8][which])
    keep = np.flatnonzero(c > inverse_depth.ravel()[place])
    which, place, x, y, c = which[keep], place[keep], x[keep], y[keep], c[keep]
    a = m[0][which] * x + (m[1][which] * y + m[2][which])
    b = m[3][which] * x + (m[4][which] * y + m[5][which])
    keep = np.flatnonzero((np.minimum(a, b) >= 0) & (np.maximum(a, b) <= c))
    which, place, a, b, c = todo[which[keep]], place[keep], a[keep], b[keep], c[keep]
    keep = ~cutouts.holes[which] | cutouts(which, a / c, b / c)
    which, place, c = which[keep], place[keep], c[keep]
    far_first = np.argsort(c, kind="stable")  # of several values for one place, numpy keeps the last
    ids.ravel()[place[far_first]] = which[far_first]
