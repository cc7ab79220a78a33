"""How well outlines are found: boundary F-score, and IoU in narrow bands along the outlines (trimaps).

Both read the maps of one image on the host and return sums of fixed size that add up over images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from segjax.metrics.scores import iou_scores

TOLERANCE = 0.0075  # of the image's diagonal (Csurka et al.; DAVIS takes 0.008)
BANDS = (1, 3, 5, 10, 20)  # pixels


@dataclasses.dataclass(frozen=True)
class BoundarySums:
    """F-scores (k,) float64 added up over images, and in how many images (k,) int64 each class was scored."""

    f: np.ndarray
    images: np.ndarray

    def __add__(self, other: BoundarySums) -> BoundarySums:
        return BoundarySums(self.f + other.f, self.images + other.images)

    def scores(self) -> np.ndarray:
        """Mean F-score of every class (k,), nan where it never had an outline."""
        return np.divide(self.f, self.images, out=np.full(len(self.f), np.nan), where=self.images > 0)


def boundary_sums(
    prediction: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = TOLERANCE,
    ignore_label: int = 255,
) -> BoundarySums:
    """Boundary F-scores of one image: 2 P R / (P + R) of each class that has an outline in truth or prediction.

    P: share of the predicted outline that lies within the tolerance of a true one; R: the other way round; what lacks
    an outline altogether scores 0. The outline of a class are the pixels whose right, lower or lower right neighbour is
    on its other side (DAVIS); where one of these is ignored in the truth there is none, so the rim of ignored
    regions is neither right nor wrong.
    prediction, labels: (h, w) int. tolerance: share of the diagonal, rounded up to pixels; from 1: pixels.
    Sources: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013; Perazzi et al.,
    "A benchmark dataset ... for video object segmentation", CVPR 2016.
    """
    _same_shape(prediction, labels)
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*labels.shape))
    valid = ~_any_of_four(labels == ignore_label)
    f, images = np.zeros(num_classes), np.zeros(num_classes, np.int64)
    for c in range(num_classes):
        truth, guess = labels == c, prediction == c
        if not (truth.any() or guess.any()):
            continue
        true, found = _outline(truth) & valid, _outline(guess) & valid
        if not (true.any() or found.any()):
            continue
        images[c] = 1
        if true.any() and found.any():
            true, found = _box_of(true | found, true, found)
            precision = np.mean(_distance(true)[found] <= radius + 1e-3)
            recall = np.mean(_distance(found)[true] <= radius + 1e-3)
            if precision + recall > 0:
                f[c] = 2 * precision * recall / (precision + recall)
    return BoundarySums(f, images)


def trimap_matrices(
    prediction: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    bands: Sequence[int] = BANDS,
    ignore_label: int = 255,
) -> np.ndarray:
    """Confusion matrices of the pixels of one image near a true outline, int64 (len(bands), k, k); images add up.

    bands: in pixels; a band of w holds the pixels that lie at most w - 1 away from a pixel with a neighbour (one of
    four) of another label, ignored ones included: 1 is the pixel on either side of an outline. On VOC, whose outlines
    are ignored, that is the band around the void label.
    prediction, labels: (h, w) int; ignored pixels do not count.
    Sources: Kraehenbuehl and Koltun, NIPS 2011; Chen et al., "DeepLab", TPAMI 2018, section 4.1.
    """
    _same_shape(prediction, labels)
    k = num_classes
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    matrices = np.zeros((len(bands), k, k), np.int64)
    if not edge.any():
        return matrices
    counts = (labels != ignore_label) & (labels >= 0) & (labels < k) & (prediction >= 0) & (prediction < k)
    distance = _distance(edge)[counts]
    cells = labels[counts].astype(np.intp) * k + prediction[counts]
    for matrix, band in zip(matrices, bands):
        matrix += np.bincount(cells[distance <= band - 1 + 1e-3], minlength=k * k).reshape(k, k)
    return matrices


def trimap_scores(matrices: np.ndarray) -> np.ndarray:
    """Mean IoU in each band, (n,) in 0..1, of the matrices (n, k, k) of all images."""
    return np.array([iou_scores(matrix)["miou"] for matrix in matrices])


def _outline(mask: np.ndarray) -> np.ndarray:
    """Pixels whose right, lower or lower right neighbour differs; beyond the image everything goes on."""
    right, below = np.empty_like(mask), np.empty_like(mask)
    right[:, :-1], right[:, -1] = mask[:, 1:], mask[:, -1]
    below[:-1], below[-1] = mask[1:], mask[-1]
    diagonal = np.empty_like(mask)
    diagonal[:-1], diagonal[-1] = right[1:], right[-1]
    return (mask ^ right) | (mask ^ below) | (mask ^ diagonal)


def _any_of_four(mask: np.ndarray) -> np.ndarray:
    """Whether a pixel or its right, lower or lower right neighbour is set."""
    found = mask.copy()
    found[:, :-1] |= mask[:, 1:]
    wide = found.copy()
    found[:-1] |= wide[1:]
    return found


def _box_of(points: np.ndarray, *masks: np.ndarray) -> list[np.ndarray]:
    """The masks within the bounding box of the points: distances between points need no more, and most classes are
    small."""
    rows, columns = np.flatnonzero(points.any(1)), np.flatnonzero(points.any(0))
    return [mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] for mask in masks]


def _distance(points: np.ndarray) -> np.ndarray:
    """Distance of every pixel to the nearest of the points, float32 (h, w)."""
    return cv2.distanceTransform((~points).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _same_shape(prediction: np.ndarray, labels: np.ndarray) -> None:
    if prediction.shape != labels.shape:
        raise ValueError(f"the prediction is {prediction.shape} and the truth is {labels.shape}")
