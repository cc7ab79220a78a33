"""Scores from a confusion matrix, computed in float64 on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def iou_scores(matrix: np.ndarray) -> dict[str, Any]:
    """Returns the scores of a confusion matrix by name, in 0..1.

    iou (k,), class_accuracy (k,), miou, mean_accuracy, pixel_accuracy, frequency_weighted_iou. The IoU of a class in
    neither truth nor prediction is nan and not part of the means; the same holds for the accuracy of a class without
    truth.

    matrix: (k, k), row = truth, column = prediction.
    """
    matrix = np.asarray(matrix, np.float64)
    right, truth, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    iou = _ratio(right, truth + predicted - right)
    accuracy = _ratio(right, truth)
    total = matrix.sum()
    return {
        "iou": iou,
        "class_accuracy": accuracy,
        "miou": _mean(iou),
        "mean_accuracy": _mean(accuracy),
        "pixel_accuracy": right.sum() / total if total else np.nan,
        "frequency_weighted_iou": float(np.nansum(iou * truth) / total) if total else np.nan,
    }


def category_matrix(matrix: np.ndarray, categories: Sequence[int]) -> np.ndarray:
    """Returns the confusion matrix (c, c) of categories.

    matrix: (k, k) of classes.
    categories: (k,) in 0..c-1, category of each class.
    """
    member = np.asarray(categories)[:, None] == np.arange(max(categories) + 1)
    return member.T.astype(np.int64) @ np.asarray(matrix) @ member.astype(np.int64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
