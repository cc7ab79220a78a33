"""Optical flow of pairs of frames, by name: flow (h, w, 2) in pixels, pixel (x, y) of a lies at (x + u, y + v) in b.

So flow from a into b fetches: `ops.bilinear_warp(b, flow)` looks like a. A learned provider needs a device and is
opened by the stages.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from segjax.data.sources import Record
from segjax.data.threads import ordered_map
from segjax.data.video import FrameIndex
from segjax.errors import UserError, did_you_mean

RecordFlow = Callable[[Sequence[Record], Sequence[Record]], np.ndarray]
PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def dis(a: Sequence[Record], b: Sequence[Record], *, preset: str = "medium") -> np.ndarray:
    """Dense inverse search (Kroeger et al., ECCV 2016), OpenCV; float32 (n, h, w, 2). preset: one of PRESETS."""
    if preset not in PRESETS:
        raise UserError(f"the flow's option preset={preset!r} is not known.{did_you_mean(preset, PRESETS)}")

    def one(pair: tuple[Record, Record]) -> np.ndarray:
        greys = [cv2.cvtColor(record.image, cv2.COLOR_RGB2GRAY) for record in pair]
        return cv2.DISOpticalFlow_create(PRESETS[preset]).calc(*greys, None)

    pairs = list(zip(a, b))
    return np.stack([one(pairs[0])] if len(pairs) == 1 else list(ordered_map(one, pairs)))


def exact(a: Sequence[Record], b: Sequence[Record], index: FrameIndex | None = None) -> np.ndarray:
    """The flow that the data set knows, in either direction; UserError where it knows none.

    Backward in time it is stored; forward it is that of the later frame turned round where a pixel is seen in both,
    and that of the nearest such pixel elsewhere. index: of the frames of the source, opened with flow=True; with it,
    frames may also be several steps apart: the flows between them are followed one after the other.
    """
    return np.stack([_exact(one, other, index) for one, other in zip(a, b)])


FLOWS: dict[str, RecordFlow] = {"dis": dis, "exact": exact}


def create(name: str, options: Mapping[str, Any] | None = None, *, index: FrameIndex | None = None) -> RecordFlow:
    """The flow of a name with its options; UserError with a suggestion for a name that is not known.

    index: of the source's frames, which "exact" uses.
    """
    if name not in FLOWS:
        raise UserError(f"flow={name!r} is not known.{did_you_mean(name, FLOWS)}")
    known = {"dis": ("preset",)}.get(name, ())
    for key in options or {}:
        if key not in known:
            raise UserError(f"flow {name!r} has no option {key!r}.{did_you_mean(key, known)}")
    given = dict(options or {}) | ({"index": index} if name == "exact" else {})
    return functools.partial(FLOWS[name], **given)


class Remembered:
    """A flow that keeps what it has computed, up to max_bytes; what was kept stays. For several threads."""

    def __init__(self, flow: RecordFlow, max_bytes: int):
        self.flow, self.max_bytes = flow, max_bytes
        self._start()

    def _start(self) -> None:
        self._known: dict[tuple[str, str], np.ndarray] = {}
        self._bytes, self._lock = 0, threading.Lock()

    def __call__(self, a: Sequence[Record], b: Sequence[Record]) -> np.ndarray:
        """As the flow itself; pairs are told apart by the names of their records."""
        keys = [(one.name, other.name) for one, other in zip(a, b)]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        found = dict(zip(new, self.flow([a[i] for i in new], [b[i] for i in new]))) if new else {}
        result = np.stack([found[i] if i in found else self._known[key] for i, key in enumerate(keys)])
        with self._lock:
            for i in new:
                if keys[i] not in self._known and self._bytes + found[i].nbytes <= self.max_bytes:
                    self._known[keys[i]] = np.array(found[i], np.float32)
                    self._bytes += found[i].nbytes
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {"flow": self.flow, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


@dataclasses.dataclass
class FlowStatistics:
    """Mean and standard deviation of u and v over many flows, summed up one after the other."""

    count: int = 0
    total: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    squares: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))

    def add(self, flow: np.ndarray) -> None:
        """Counts every pixel of flow (..., 2)."""
        flow = np.asarray(flow, np.float64).reshape(-1, 2)
        self.count += len(flow)
        self.total += flow.sum(0)
        self.squares += np.square(flow).sum(0)

    @property
    def mean(self) -> tuple[float, float]:
        """(u, v) in pixels."""
        return tuple((self.total / self.count).tolist())

    @property
    def std(self) -> tuple[float, float]:
        """(u, v) in pixels, at least 0.1: a camera that stands still must not blow up noise."""
        variance = self.squares / self.count - np.square(self.total / self.count)
        return tuple(np.maximum(np.sqrt(np.maximum(variance, 0)), 0.1).tolist())


def _exact(a: Record, b: Record, index: FrameIndex | None) -> np.ndarray:
    step = index.step if index else 1
    later = a if a.frame > b.frame else b
    if later.flow is None:
        raise UserError(f"{later.name} stores no optical flow; choose flow='dis' for this data set.")
    gap, rest = divmod(abs(a.frame - b.frame), step)
    if a.sequence != b.sequence or rest or not gap or (gap > 1 and index is None):
        raise UserError(f"{a.name} and {b.name} are no neighbours, so their exact flow is not known; use flow='dis'.")
    towards = step if b.frame > a.frame else -step
    frames = [a, *(_between(index, a, a.frame + towards * i) for i in range(1, gap)), b]
    flow = _neighbours(frames[0], frames[1])
    for one, other in zip(frames[1:], frames[2:]):
        flow = flow + _sample(_neighbours(one, other), flow)
    return flow


def _between(index: FrameIndex, a: Record, frame: int) -> Record:
    record = index.find(a.sequence, frame)
    if record is None:
        raise UserError(f"frame {frame} of {a.sequence} is missing, so no exact flow leads across it; use flow='dis'.")
    return index.source[record]


def _neighbours(a: Record, b: Record) -> np.ndarray:
    if a.frame > b.frame:
        return a.flow
    return invert(b.flow, b.flow_valid if b.flow_valid is not None else np.ones(b.flow.shape[:2], bool))


def _sample(field: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """field (h, w, 2) at the places that flow (h, w, 2) leads to; outside, that of the border."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return cv2.remap(field, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def invert(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Flow (h, w, 2) from b to a, where `valid` (h, w), turned into flow from a to b, filled from the nearest pixel."""
    h, w = valid.shape
    y, x = np.nonzero(valid)
    v = flow[y, x]
    column, row = np.floor(x + v[:, 0] + 0.5).astype(int), np.floor(y + v[:, 1] + 0.5).astype(int)
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    found = np.zeros((h, w, 2), np.float32)
    hole = np.ones((h, w), np.uint8)
    found[row[inside], column[inside]] = -v[inside]
    hole[row[inside], column[inside]] = 0
    if hole.all():
        return found
    _, nearest = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    source = np.zeros(nearest.max() + 1, np.int64)
    known = np.flatnonzero(hole.ravel() == 0)
    source[nearest.ravel()[known]] = known
    return found.reshape(-1, 2)[source[nearest.ravel()]].reshape(h, w, 2)
