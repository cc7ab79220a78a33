"""Online hard example mining: only the pixels the network is least sure of are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.losses.cross_entropy import class_weight_map, valid_pixels
from segjax.losses.negative_log import nll
from segjax.typing import Array, Sum

SCOPES = ("global", "image")


def ohem_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    ignore_label: int = 255,
    threshold: float = 0.7,
    min_kept: int = 100_000,
    scope: str = "global",
    inclusive: bool = True,
    normalise_weights: bool = True,
    class_weights: Sequence[float] | Array | None = None,
) -> Sum:
    """Cross entropy over the pixels whose true class has a probability of at most max(threshold, min_kept-th lowest).

    logits: (b, h, w, k) float. labels: (b, h, w) int.
    min_kept: pixels kept at least, over the batch or, with scope "image", in every image; all if there are fewer.
    scope: "global": one bound for the batch, whatever devices it lies on. "image": one for every image.
    inclusive: keep pixels at the bound itself (BiSeNet, TorchSeg); False drops them (HRNet, OCR).
    normalise_weights: divide by the sum of the class weights of the kept pixels, or else by their number (HRNet).

    The bound is found by bisection over the bits of a float, which needs counts only: sorting a batch that is spread
    over devices would collect the loss of every pixel on each of them.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r} is not known; choose one of {', '.join(SCOPES)}")
    k = logits.shape[-1]
    valid = valid_pixels(labels, k, ignore_label)
    value = nll(logits, jnp.where(valid, labels, -1))
    probability = jnp.where(valid, jnp.exp(-jax.lax.stop_gradient(value)), 2.0)  # no probability is 2
    axes = (0, 1, 2) if scope == "global" else (1, 2)
    rank = min_kept if inclusive else min_kept + 1
    bound = jnp.maximum(kth_lowest(probability, rank, axes), threshold)
    few = valid.sum(axes, keepdims=True) <= min_kept
    if inclusive:
        keep = valid & ((probability <= bound) | few)
    else:
        # the published code takes the last of too few pixels as the bound, so the easiest one is dropped unless below it
        last = jnp.max(jnp.where(valid, probability, 0.0), axes, keepdims=True)
        keep = valid & (probability < jnp.where(few, jnp.maximum(last, threshold), bound))
    weight = keep.astype(jnp.float32)
    count = weight.sum()
    if class_weights is not None:
        weight *= class_weight_map(labels, class_weights, k)
    return Sum((value * weight).sum(), weight.sum() if normalise_weights else count)


def kth_lowest(x: Array, rank: int, axes: tuple[int, ...]) -> Array:
    """The rank-th lowest (from 1) of non-negative float32 values over `axes`, kept as size 1; the highest where fewer.

    31 counts instead of a sort: non-negative floats are ordered as their bits.
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    size = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    rank = min(max(rank, 1), int(jnp.size(x) // int(jnp.prod(jnp.array(size)))))

    def halve(i, low):
        middle = low + jnp.left_shift(jnp.int32(1), 30 - i)
        below = (bits < middle).sum(axes, keepdims=True)
        return jnp.where(below >= rank, low, middle)

    lowest = jax.lax.fori_loop(0, 31, halve, jnp.zeros(size, jnp.int32))
    return jax.lax.bitcast_convert_type(lowest, jnp.float32)
