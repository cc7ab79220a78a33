"""Which parts of a network are computed again in the backward pass, by name, and the function that wraps them.

The option `remat` of every network is one of

    False             nothing
    True              the network's usual choice: residual blocks or dense layers; in ladders also stem, td and up
    "layer+stem+td"   segments, joined by "+"
    "full"            all segments of the network, and the loss

A segment keeps its inputs only, and its activations exist twice for a short time. Names and values of the parameters,
dropout masks and statistics are those without.

Source of the names: Kreso et al., "Efficient Ladder-style DenseNets", section 5.7 and Table 11, where "cat 1x1 3x3" is
"layer"; spp, head and loss are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import flax.linen as nn

from segjax.errors import UserError, did_you_mean

Remat = bool | str | frozenset[str]
Wrapped = TypeVar("Wrapped", bound=Callable)

SEGMENTS = {
    "conv3x3": "norm, ReLU and 3x3 convolution of a dense layer",
    "cat1x1": "joined maps, norm, ReLU and 1x1 convolution of a dense layer",
    "layer": "whole dense layer; the dense block then has one buffer, see ops/dense_block.py",
    "block": "residual block, or whole dense block",
    "stem": "first convolutions and pooling",
    "td": "transition down between dense blocks",
    "up": "step of the decoder",
    "spp": "pyramid pooling or other context module",
    "head": "classifier and auxiliary heads",
    "step": "frame of a snippet, by a propagation network; part of the training step",
    "loss": "loss, with the enlargement of the logits; part of the training step",
}
FULL = "full"


def segments(remat: Remat, default: str = "block") -> frozenset[str]:
    """Returns the names of the segments that the option `remat` names.

    remat: see the top of this file, or the result of an earlier call.
    default: what True stands for.

    Raises UserError with the nearest name for an unknown segment.
    """
    if isinstance(remat, frozenset):
        return remat
    remat = {"True": True, "False": False}.get(remat, remat)  # a recipe's option is text
    if isinstance(remat, bool):
        remat = default if remat else ""
    if remat == FULL:
        return frozenset(SEGMENTS)
    names = frozenset(name.strip() for name in remat.split("+")) if remat.strip() else frozenset()
    for name in sorted(names - set(SEGMENTS)):
        near = did_you_mean(name, (*SEGMENTS, FULL))
        raise UserError(f"remat={remat!r}: segment {name!r} does not exist; join names with '+'.{near}")
    return names


def check_segments(remat: Remat, own: Collection[str], *, network: str) -> None:
    """Raises UserError for a segment that does not exist, or that the network does not have.

    own: segments of the network, and "loss" if its training step has this segment.
    network: its name.
    """
    if remat == FULL:
        return
    for name in sorted(segments(remat, "") - set(own)):
        raise UserError(
            f"remat={remat!r}: {network} has no segment {name!r} ({SEGMENTS[name]}); choose of {', '.join(own)}."
        )


def rematerialised(target: Wrapped, remat: Remat, segment: str = "block") -> Wrapped:
    """Returns the target; if `remat` names the segment, a version whose activations the backward pass computes again.

    target: class of a module, or a function (module, *arrays) -> arrays that creates submodules of the module, for a
        segment that is no module of its own. Call the latter in the module's compact method.
    remat: see `segments`.
    segment: key of SEGMENTS.
    """
    return nn.remat(target) if segment in segments(remat) else target
