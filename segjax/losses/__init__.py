"""Losses: pure functions (logits, labels) -> Sum, in float32, over the pixels that count."""

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

# these take logits at their own resolution; the labels come down to them
AT_LOGIT_SIZE = ("soft_target_cross_entropy", "presence_cross_entropy")
# how many pixels these are a mean over depends on the logits; for the others on the labels only
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
