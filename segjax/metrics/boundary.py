"""Scores of outlines: boundary F-score, and IoU in narrow bands along the outlines (trimaps).

Both are computed for one image, on the host. Their results have a fixed size and are added over images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from segjax.metrics.scores import iou_scores

TOLERANCE = 0.0075  # of the image's diagonal (Csurka et al.; DAVIS has 0.008)
BANDS = (1, 3, 5, 10, 20)  # pixels


@dataclasses.dataclass(frozen=True)
class BoundarySums:
    """Sums of F-scores over images.

    f: (k,) float64, sum of each class's F-scores.
    images: (k,) int64, number of images in which the class was scored.
    """

    f: np.ndarray
    images: np.ndarray

    def __add__(self, other: BoundarySums) -> BoundarySums:
        return BoundarySums(self.f + other.f, self.images + other.images)

    def scores(self) -> np.ndarray:
        """Returns the mean F-score of every class, (k,) in 0..1; nan for a class that never had an outline."""
        return np.divide(self.f, self.images, out=np.full(len(self.f), np.nan), where=self.images > 0)


def boundary_sums(
    prediction: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    tolerance: float = TOLERANCE,
    ignore_label: int = 255,
) -> BoundarySums:
    """Returns the boundary F-scores of one image, 2 P R / (P + R) of each class.

    P is the share of the predicted outline within the tolerance of a true outline. R is the share of the true outline
    within the tolerance of a predicted one. A class with an outline in only one of them scores 0; a class without any
    is not scored. The outline of a class are the pixels whose right, lower or lower right neighbour is on its other
    side (as in DAVIS). If one of these pixels is ignored in the truth there is no outline, so that the rim of ignored
    regions is neither right nor wrong.

    prediction, labels: (h, w) int.
    num_classes: k.
    tolerance: below 1 a share of the diagonal, rounded up to pixels; else in pixels.
    ignore_label: label of pixels that do not count.

    Sources: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013; Perazzi et al.,
    "A benchmark dataset and evaluation methodology for video object segmentation", CVPR 2016.
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
    bands: Sequence[float] = BANDS,
    ignore_label: int = 255,
) -> np.ndarray:
    """Returns confusion matrices of the pixels of one image near a true outline, int64 (len(bands), k, k).

    prediction, labels: (h, w) int; ignored pixels do not count.
    num_classes: k.
    bands: widths w in pixels. A band contains the pixels at most w - 1 away from an outline pixel. Outline pixels have
        another label among their 4 neighbours, which may be the ignored one. On VOC, whose outlines are ignored, this
        is the band around the void label. Infinity: all pixels.
    ignore_label: label of pixels that do not count.

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
    counts = (labels != ignore_label) & (labels >= 0) & (labels < k) & (prediction >= 0) & (prediction < k)
    distance = (_distance(edge) if edge.any() else np.full(edge.shape, np.inf))[counts]
    cells = labels[counts].astype(np.intp) * k + prediction[counts]
    for matrix, band in zip(matrices, bands):
        matrix += np.bincount(cells[distance <= band - 1 + 1e-3], minlength=k * k).reshape(k, k)
    return matrices


def trimap_scores(matrices: np.ndarray) -> np.ndarray:
    """Returns the mean IoU in each band, (n,) in 0..1; matrices: (n, k, k), added over images."""
    return np.array([iou_scores(matrix)["miou"] for matrix in matrices])


def _outline(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels whose right, lower or lower right neighbour differs; the image's edge is repeated beyond."""
    right, below = np.empty_like(mask), np.empty_like(mask)
    right[:, :-1], right[:, -1] = mask[:, 1:], mask[:, -1]
    below[:-1], below[-1] = mask[1:], mask[-1]
    diagonal = np.empty_like(mask)
    diagonal[:-1], diagonal[-1] = right[1:], right[-1]
    return (mask ^ right) | (mask ^ below) | (mask ^ diagonal)


def _any_of_four(mask: np.ndarray) -> np.ndarray:
    """Returns whether a pixel or its right, lower or lower right neighbour is set, (h, w) bool."""
    found = mask.copy()
    found[:, :-1] |= mask[:, 1:]
    wide = found.copy()
    found[:-1] |= wide[1:]
    return found


def _box_of(points: np.ndarray, *masks: np.ndarray) -> list[np.ndarray]:
    """Returns the masks within the bounding box of the points."""
    # distances between points need no more than the box, and most classes cover a small part of the image
    rows, columns = np.flatnonzero(points.any(1)), np.flatnonzero(points.any(0))
    return [mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] for mask in masks]


def _distance(points: np.ndarray) -> np.ndarray:
    """Returns the distance of every pixel to the nearest point, float32 (h, w)."""
    return cv2.distanceTransform((~points).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _same_shape(prediction: np.ndarray, labels: np.ndarray) -> None:
    if prediction.shape != labels.shape:
        raise ValueError(f"the prediction is {prediction.shape} and the truth is {labels.shape}")
