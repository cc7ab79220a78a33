"""Tiny videos in memory, and the propagation chain written out in plain numpy loops."""

import numpy as np

from segjax.data.sources import Record


class Table:
    """A FrameTable of sequences of lengths; every `every`-th frame from `first` on is labelled."""

    def __init__(self, lengths=(7,), *, size=(6, 7), every=1, first=0, stride=1, without=()):
        rows = [(s, f) for s, length in enumerate(lengths) for f in range(length) if (s, f) not in without]
        self.names = [f"v{s}_{f:03d}" for s, f in rows]
        self.sequences = [f"v{s}" for s, _ in rows]
        self.frames = np.array([f * stride for _, f in rows])
        self.sizes = np.tile(np.int32(size), (len(rows), 1))
        self.labelled = np.array([f % every == first for _, f in rows])


def random_records(table, *, seed=0, num_classes=5):
    """record number -> random image and label."""
    rng = np.random.default_rng(seed)
    found = {}
    for i, name in enumerate(table.names):
        size = tuple(table.sizes[i])
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        label = rng.integers(0, num_classes, size, dtype=np.uint8)
        label[0, 0] = 255
        found[i] = Record(image, label if table.labelled[i] else None, name, table.sequences[i], int(table.frames[i]))
    return found


def pair_flow(a: Record, b: Record, *, scale=2.0):
    """A random field that depends on the pair of frames only."""
    seed = [a.frame, b.frame, len(a.sequence)]
    return (np.random.default_rng(seed).normal(0, scale, (*a.image.shape[:2], 2))).astype(np.float32)


def warp(source, motion, method):
    """resample2d, vplr.md 3.3, one pixel at a time; source (h, w, c)."""
    h, w = source.shape[:2]
    out = np.zeros((h, w, source.shape[2]), np.float64)
    for y in range(h):
        for x in range(w):
            sx, sy = np.float32(x) + motion[y, x, 0], np.float32(y) + motion[y, x, 1]
            if method == "nearest":
                out[y, x] = source[clamp(np.floor(sy + np.float32(0.5)), h), clamp(np.floor(sx + np.float32(0.5)), w)]
                continue
            x0, y0 = np.floor(sx), np.floor(sy)
            a, b = sx - x0, sy - y0
            for dy, wy in ((0, 1 - b), (1, b)):
                for dx, wx in ((0, 1 - a), (1, a)):
                    out[y, x] += wy * wx * source[clamp(y0 + dy, h), clamp(x0 + dx, w)]
    return out


def clamp(value, size):
    return int(min(max(value, 0), size - 1))


def chain_by_hand(frames, t, direction, steps, *, method, predict, rgb_warp="bilinear", ignore=True):
    """Step p = 1..steps of the published table for records by number; returns [(image float, label)].

    predict(images, flows) of a list of images and the flows of each to the one before.
    """
    image, label, out = frames[t].image.astype(np.float64), frames[t].label, []
    h, w = label.shape
    ends = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float64)  # composed: places in frame t
    grid, lost = ends, np.zeros((h, w), bool)
    for p in range(1, steps + 1):
        if p == 1:
            real = [frames.get(t - direction), frames[t], frames[t + direction]]
        else:
            real = [frames[t], frames[t + direction * (p - 1)], frames[t + direction * p]]
        place, target = frames[t + direction * (p - 1)], frames[t + direction * p]
        if method == "copy":
            motion = np.zeros((*label.shape, 2), np.float32)
        elif method == "flow":
            motion = pair_flow(target, place)
        else:
            used = real if method == "reconstruction" else real[:2]
            motion = predict([r.image for r in used], [pair_flow(b, a) for a, b in zip(used, used[1:])])
        outside = np.zeros((h, w), bool)
        if ignore:
            x, y = np.arange(w) + motion[..., 0], np.arange(h)[:, None] + motion[..., 1]
            outside = (x < -0.5) | (x >= w - 0.5) | (y < -0.5) | (y >= h - 0.5)
        if rgb_warp == "composed":
            ends = warp(ends, motion, "bilinear")
            lost = outside | (warp(lost[..., None], motion, "nearest")[..., 0] > 0)
            path = (ends - grid).astype(np.float32)
            image = warp(frames[t].image, path, "bilinear")
            label = warp(frames[t].label[..., None], path, "nearest")[..., 0].astype(np.uint8)
            out.append((image, np.where(lost, 255, label).astype(np.uint8)))
            continue
        nearest = rgb_warp == "reference" and p > 1
        image = warp(image, motion, "nearest" if nearest else "bilinear")
        if rgb_warp == "reference":
            image = np.floor(image)
        label = warp(label[..., None], motion, "nearest")[..., 0].astype(np.uint8)
        label = np.where(outside, 255, label).astype(np.uint8)
        out.append((image, label))
    return out
