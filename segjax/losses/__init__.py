"""Losses: pure functions (logits, targets ..) -> Sum of values over the pixels that count, in float32.

A loss names what it needs of the targets by its positional parameters after the logits: `labels`, for soft labels
`soft_ids` and `soft_shares`, `cells` for counts of the labels in the cells of the logits' grid, and `teacher` for the
logits of another network.
"""

import inspect
from collections.abc import Callable

from segjax.losses.boundary_aware import boundary_aware_cross_entropy
from segjax.losses.cells import Grid, count_classes, grid_of
from segjax.losses.cross_entropy import cross_entropy
from segjax.losses.distillation import distillation
from segjax.losses.ohem import ohem_cross_entropy
from segjax.losses.presence import presence_cross_entropy
from segjax.losses.regulariser import model_regulariser
from segjax.losses.relaxation import relaxed_cross_entropy
from segjax.losses.soft_targets import soft_target_cross_entropy, soft_targets
from segjax.losses.top_k import top_k_cross_entropy

LOSSES = {
    "cross_entropy": cross_entropy,
    "relaxed_cross_entropy": relaxed_cross_entropy,
    "ohem_cross_entropy": ohem_cross_entropy,
    "soft_target_cross_entropy": soft_target_cross_entropy,
    "boundary_aware_cross_entropy": boundary_aware_cross_entropy,
    "top_k_cross_entropy": top_k_cross_entropy,
    "model_regulariser": model_regulariser,
    "distillation": distillation,
}
# of outputs that are no map, which a network can name in its `loss_names` and no recipe can
OUTPUT_LOSSES = {"presence_cross_entropy": presence_cross_entropy}

# losses of logits at their own resolution, to which the labels are reduced
AT_LOGIT_SIZE = ("soft_target_cross_entropy", "presence_cross_entropy")
# losses whose count depends on the logits; that of the others depends on the labels only
COUNT_OF_LOGITS = ("ohem_cross_entropy",)
_GIVEN = ("ignore_label", "epoch")  # positional parameters that are no targets


def targets_of(loss: Callable) -> tuple[str, ...]:
    """Returns the names of the targets that a loss needs, in the order of its parameters."""
    parameters = list(inspect.signature(loss).parameters.values())[1:]
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in _GIVEN)


__all__ = [
    "AT_LOGIT_SIZE",
    "COUNT_OF_LOGITS",
    "Grid",
    "LOSSES",
    "OUTPUT_LOSSES",
    "boundary_aware_cross_entropy",
    "count_classes",
    "cross_entropy",
    "distillation",
    "grid_of",
    "model_regulariser",
    "ohem_cross_entropy",
    "presence_cross_entropy",
    "relaxed_cross_entropy",
    "soft_target_cross_entropy",
    "soft_targets",
    "targets_of",
    "top_k_cross_entropy",
]
