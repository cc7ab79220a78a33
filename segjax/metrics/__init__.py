"""Metrics: confusion matrices, computed on the device, and scores, computed on the host."""

from segjax.metrics.boundary import boundary_sums, trimap_matrices, trimap_scores
from segjax.metrics.confusion import confusion_matrix
from segjax.metrics.instances import InstanceSums, instance_scores, instance_sums
from segjax.metrics.official import RULES, Rule, Tally, empty_tally, find_rule, official_scores, tally
from segjax.metrics.scores import category_matrix, iou_scores

__all__ = [
    "RULES",
    "InstanceSums",
    "Rule",
    "Tally",
    "boundary_sums",
    "category_matrix",
    "confusion_matrix",
    "empty_tally",
    "find_rule",
    "instance_scores",
    "instance_sums",
    "iou_scores",
    "official_scores",
    "tally",
    "trimap_matrices",
    "trimap_scores",
]
