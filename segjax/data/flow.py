"""Optical flow of pairs of frames, by name: flow (h, w, 2) in pixels, pixel (x, y) of a lies at (x + u, y + v) in b.

Flow from a into b thus fetches: `ops.bilinear_warp(b, flow)` looks like a. Networks that compute flow need a device and
are opened in `segjax.propagation.motion`.
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
    """Computes flow by dense inverse search (Kroeger et al., ECCV 2016) in OpenCV; float32 (n, h, w, 2).

    preset: one of PRESETS. Raises UserError for an unknown one.
    """
    if preset not in PRESETS:
        raise UserError(f"the flow's option preset={preset!r} is not known.{did_you_mean(preset, PRESETS)}")

    def one(pair: tuple[Record, Record]) -> np.ndarray:
        greys = [cv2.cvtColor(record.image, cv2.COLOR_RGB2GRAY) for record in pair]
        return cv2.DISOpticalFlow_create(PRESETS[preset]).calc(*greys, None)

    pairs = list(zip(a, b))
    return np.stack([one(pairs[0])] if len(pairs) == 1 else list(ordered_map(one, pairs)))


def exact(a: Sequence[Record], b: Sequence[Record], index: FrameIndex | None = None) -> np.ndarray:
    """Returns the flow that the dataset stores, in either direction in time; float32 (n, h, w, 2).

    Backward flow is stored. Forward flow is the inverse of the later frame's flow for pixels that are visible in both
    frames; other pixels take the value of the nearest such pixel.

    index: of the source's frames. With it, frames may also be several steps apart: the flows between them are chained.

    The source must be opened with the field "flow".
    Raises UserError for records without flow, and for frames that are no neighbours.
    """
    return np.stack([_exact(one, other, index) for one, other in zip(a, b)])


FLOWS: dict[str, RecordFlow] = {"dis": dis, "exact": exact}


def create(name: str, options: Mapping[str, Any] | None = None, *, index: FrameIndex | None = None) -> RecordFlow:
    """Returns the flow of a name with its options.

    index: of the source's frames, which "exact" uses.
    Raises UserError for an unknown name or option, with the nearest one.
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
    """A flow that keeps its results in memory, up to max_bytes; nothing is evicted. Safe in several threads."""

    def __init__(self, flow: RecordFlow, max_bytes: int):
        self.flow, self.max_bytes = flow, max_bytes
        self._start()

    def _start(self) -> None:
        self._known: dict[tuple[str, str], np.ndarray] = {}
        self._bytes, self._lock = 0, threading.Lock()

    def __call__(self, a: Sequence[Record], b: Sequence[Record]) -> np.ndarray:
        """Returns the flow of pairs; a pair is identified by the names of its records."""
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
    """Mean and standard deviation of u and v over many flows, accumulated one flow at a time."""

    count: int = 0
    total: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    squares: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))

    def add(self, flow: np.ndarray) -> None:
        """Adds every pixel of a flow (..., 2)."""
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
        """(u, v) in pixels, at least 0.1, so that the noise of a camera at rest is not amplified."""
        variance = self.squares / self.count - np.square(self.total / self.count)
        return tuple(np.maximum(np.sqrt(np.maximum(variance, 0)), 0.1).tolist())


def _exact(a: Record, b: Record, index: FrameIndex | None) -> np.ndarray:
    step = index.step if index else 1
    later = a if a.frame > b.frame else b
    if later.flow is None:
        raise UserError(f"{later.name} stores no optical flow; choose flow='dis' for this dataset.")
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
    """Samples a field (h, w, 2) at the places that flow (h, w, 2) leads to; beyond the border, that of the border."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return cv2.remap(field, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def invert(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Returns the inverse of a flow, float32 (h, w, 2): from a to b for a given flow from b to a.

    flow: (h, w, 2) in pixels. valid: bool (h, w), pixels of b that are visible in a; others are ignored.
    Pixels of a that no valid pixel of b leads to take the value of the nearest one that has one.
    """
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
