"""Optical flow of pairs of frames, by name: flow (h, w, 2) in pixels, pixel (x, y) of a lies at (x + u, y + v) in b."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from segjax.data.sources import Record
from segjax.data.threads import ordered_map
from segjax.errors import UserError, did_you_mean

RecordFlow = Callable[[Sequence[Record], Sequence[Record]], np.ndarray]


def dis(a: Sequence[Record], b: Sequence[Record]) -> np.ndarray:
    """Dense inverse search at its medium preset (Kroeger et al., ECCV 2016), OpenCV; float32 (n, h, w, 2)."""

    def one(pair: tuple[Record, Record]) -> np.ndarray:
        greys = [cv2.cvtColor(record.image, cv2.COLOR_RGB2GRAY) for record in pair]
        return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*greys, None)

    return np.stack(list(ordered_map(one, zip(a, b))))


def exact(a: Sequence[Record], b: Sequence[Record]) -> np.ndarray:
    """The flow that the data set knows, of neighbouring frames in either direction; UserError where it knows none.

    Backward in time it is stored; forward it is that of the later frame turned round where a pixel is seen in both,
    and that of the nearest such pixel elsewhere.
    """
    return np.stack([_exact(one, other) for one, other in zip(a, b)])


FLOWS: dict[str, RecordFlow] = {"dis": dis, "exact": exact}


def create(name: str) -> RecordFlow:
    """The flow of a name; UserError with a suggestion for one that is not known."""
    if name not in FLOWS:
        raise UserError(f"flow={name!r} is not known.{did_you_mean(name, FLOWS)}")
    return FLOWS[name]


def _exact(a: Record, b: Record) -> np.ndarray:
    later = a if a.frame > b.frame else b
    if later.flow is None:
        raise UserError(f"{later.name} stores no optical flow; choose flow='dis' for this data set.")
    if a.sequence != b.sequence or abs(a.frame - b.frame) != 1:
        raise UserError(f"{a.name} and {b.name} are no neighbours, so their exact flow is not known; use flow='dis'.")
    if a is later:
        return a.flow
    return invert(b.flow, b.flow_valid if b.flow_valid is not None else np.ones(b.flow.shape[:2], bool))


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
