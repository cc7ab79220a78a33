"""Metrics: confusion matrices on the device, scores from them on the host."""

from segjax.metrics.confusion import confusion_matrix
from segjax.metrics.instances import InstanceSums, instance_scores, instance_sums
from segjax.metrics.scores import category_matrix, iou_scores

__all__ = [
    "InstanceSums",
    "category_matrix",
    "confusion_matrix",
    "instance_scores",
    "instance_sums",
    "iou_scores",
]
