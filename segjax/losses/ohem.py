"""Online hard example mining: train on the pixels the network is least sure of."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.losses.cross_entropy import pixel_losses, reduce_pixels
from segjax.losses.groups import split_batch
from segjax.losses.kth_smallest import kth_smallest
from segjax.typing import Array, Sum


def ohem_cross_entropy(
    logits: Array,
    labels: Array,
    ignore_label: int = 255,
    *,
    threshold: float = 0.7,
    min_kept: float = 1 / 16,
    images_per_device: int = 0,
    inclusive: bool = True,
    class_weights: Sequence[float] | Array | None = None,
    upper_bound: float = 0.0,
    weight_mode: str = "weighted_mean",
) -> Sum:
    """Cross entropy over the pixels whose true class has a probability p <= max(threshold, min_kept-th smallest p).

    logits: (b, h, w, k) float. labels: (b, h, w) int; `ignore_label` and everything outside 0..k-1 is ignored.
    threshold: probability in 0..1.
    min_kept: how many pixels are kept at least: a number, or below 1 a share of the pixels (1/16 is BiSeNet's).
    images_per_device: over how many images the smallest are sought: 0 = the whole batch, 1 = each image on its own,
        n = what one device of the published code holds.
    inclusive: True as in BiSeNet (TorchSeg): with fewer than min_kept valid pixels all are kept. False as in HRNet-OCR:
        p < max(threshold, the next one after min_kept), where the last valid pixel stands for those that are missing.
    class_weights, upper_bound, weight_mode: see `cross_entropy`; HRNet's is "pixel_mean".

    With gradient accumulation the pixels are chosen within each micro-batch: which are the hardest of the whole batch
    is known after its last one only.
    Whatever the devices the batch lies on, the result is the same; finding the bound costs them scalars only.
    Raises UserError for settings that do not fit.
    """
    if not 0 <= threshold <= 1 or min_kept < 0:
        raise UserError(f"ohem_cross_entropy: threshold={threshold} must be in 0..1, min_kept={min_kept} 0 or more.")
    nll, classes, weights = pixel_losses(
        logits, labels, ignore_label=ignore_label, class_weights=class_weights, upper_bound=upper_bound
    )
    valid = classes < logits.shape[-1]
    # (parts, images, h, w); 2 is no probability
    p = split_batch(jnp.where(valid, jnp.exp(-jax.lax.stop_gradient(nll)), 2.0), images_per_device)
    total = p[0].size
    wanted = int(min_kept * total) if min_kept < 1 else int(min_kept)
    number = jnp.sum(p <= 1, axis=(1, 2, 3), keepdims=True, dtype=jnp.int32)
    if inclusive:
        bound = kth_smallest(p, wanted, (1, 2, 3), at_least=threshold)  # 1 where wanted > number
        easy = p > bound
    else:
        bound = kth_smallest(p, jnp.minimum(wanted + 1, number), (1, 2, 3), at_least=threshold)
        easy = p >= bound
    # "not easy" rather than "hard": a pixel that is nan stays, so that the loss shows it
    return reduce_pixels(nll, valid & ~easy.reshape(valid.shape), weights, weight_mode=weight_mode)
