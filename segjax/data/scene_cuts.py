"""Scene cuts of a video, across which no label may be propagated."""

from __future__ import annotations

import cv2
import numpy as np

# Two frames with more difference than this are a cut. Measured: neighbours at 3 to 15 Hz differ by up to 0.11 and 9.4,
# frames of different streets by 0.1 to 0.75 and 12 to 60. So each measure finds cuts that the other misses.
CUT_HISTOGRAM = 0.35  # of `histogram_distance`
CUT_RESIDUAL = 20.0  # of `flow_residual`

_BINS = 8  # per colour channel
_SIDE = 128  # frames are reduced to about this side first: a cut is visible at any size


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns half the L1 distance of the joint 8 x 8 x 8 colour histograms of two frames uint8 (h, w, 3), 0..1.

    This is the share of the pixels whose colour occurs in one frame and not in the other.
    """
    return distance_of(colour_histogram(first), colour_histogram(second))


def colour_histogram(frame: np.ndarray) -> np.ndarray:
    """Returns the share of the pixels of a frame uint8 (h, w, 3) with each of 8 x 8 x 8 colours, (512,)."""
    small = _small(frame)
    bins = (small.reshape(-1, 3) // (256 // _BINS)).astype(np.int32) @ np.array([_BINS * _BINS, _BINS, 1], np.int32)
    return np.bincount(bins, minlength=_BINS**3) / len(bins)


def distance_of(first: np.ndarray, second: np.ndarray) -> float:
    """Returns `histogram_distance` of two frames from their histograms."""
    return float(np.abs(first - second).sum() / 2)


def flow_residual(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """Returns the mean absolute difference, in grey levels, of a frame and the other one warped onto it.

    first, second: uint8 (h, w, 3).
    flow: (h, w, 2) in pixels; pixel (x, y) of `first` lies at (x + u, y + v) in `second`.

    Only pixels that stay in view count; without any the result is 255.
    """
    h, w = first.shape[:2]
    small = _small(first)
    height, width = small.shape[:2]
    motion = cv2.resize(np.asarray(flow, np.float32), (width, height), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x += motion[..., 0] * np.float32(width / w)
    y += motion[..., 1] * np.float32(height / h)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if not inside.any():
        return 255.0
    moved = cv2.remap(_small(second), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(moved[inside].astype(np.float32) - small[inside]).mean())


def _small(frame: np.ndarray) -> np.ndarray:
    shrink = max(frame.shape[:2]) // _SIDE
    if shrink < 2:
        return frame
    size = (frame.shape[1] // shrink, frame.shape[0] // shrink)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
