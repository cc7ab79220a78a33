"""Metrics: confusion matrices on the device, scores from them on the host."""

from segjax.metrics.confusion import confusion_matrix
from segjax.metrics.scores import category_matrix, iou_scores

__all__ = ["category_matrix", "confusion_matrix", "iou_scores"]
