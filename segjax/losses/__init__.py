"""Losses: pure functions (logits, labels) -> Sum of values over the pixels that count, in float32."""

from segjax.losses.boundary_aware import boundary_aware_cross_entropy
from segjax.losses.cross_entropy import cross_entropy
from segjax.losses.ohem import ohem_cross_entropy
from segjax.losses.presence import presence_cross_entropy
from segjax.losses.relaxation import relaxed_cross_entropy
from segjax.losses.soft_targets import soft_target_cross_entropy, soft_targets

LOSSES = {
    "cross_entropy": cross_entropy,
    "relaxed_cross_entropy": relaxed_cross_entropy,
    "ohem_cross_entropy": ohem_cross_entropy,
    "soft_target_cross_entropy": soft_target_cross_entropy,
    "boundary_aware_cross_entropy": boundary_aware_cross_entropy,
}
# of outputs that are no map, which a network names in its `loss_names` and no recipe can
OUTPUT_LOSSES = {"presence_cross_entropy": presence_cross_entropy}

# losses of logits at their own resolution, to which the labels are reduced
AT_LOGIT_SIZE = ("soft_target_cross_entropy", "presence_cross_entropy")
# losses whose count depends on the logits; that of the others depends on the labels only
COUNT_OF_LOGITS = ("ohem_cross_entropy",)

__all__ = [
    "AT_LOGIT_SIZE",
    "COUNT_OF_LOGITS",
    "LOSSES",
    "OUTPUT_LOSSES",
    "boundary_aware_cross_entropy",
    "cross_entropy",
    "ohem_cross_entropy",
    "presence_cross_entropy",
    "relaxed_cross_entropy",
    "soft_target_cross_entropy",
    "soft_targets",
]
