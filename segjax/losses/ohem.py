"""Online hard example mining: cross entropy over the pixels whose true class has the lowest probability."""

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
    """Returns cross entropy over the pixels whose true class has a probability p <= max(threshold, n-th smallest p).

    n is min_kept. The result does not depend on the number of devices, which exchange scalars only to find the bound.
    With gradient accumulation the pixels are chosen within each micro-batch: the hardest pixels of the whole batch are
    not known before its last micro-batch.

    logits: (b, h, w, k) float.
    labels: (b, h, w) int; ignored are `ignore_label` and labels outside 0..k-1.
    ignore_label: label of pixels that do not count.
    threshold: probability in 0..1.
    min_kept: minimum number of pixels; below 1 a share of the pixels (1/16 is BiSeNet's).
    images_per_device: number of images whose pixels are compared: 0 = the whole batch, 1 = each image alone, more = as
        many as one device of the published code holds.
    inclusive: True as in BiSeNet (TorchSeg): all valid pixels are kept if they are fewer than min_kept. False as in
        HRNet-OCR: p < max(threshold, the smallest p after min_kept); the largest p replaces it if pixels are too few.
    class_weights, upper_bound, weight_mode: see `cross_entropy`; HRNet's weight_mode is "pixel_mean".

    Raises UserError for a threshold or min_kept out of range, a batch that images_per_device does not divide, and
    weights that do not fit.
    """
    if not 0 <= threshold <= 1 or min_kept < 0:
        raise UserError(f"ohem_cross_entropy: threshold={threshold} must be in 0..1, min_kept={min_kept} 0 or more.")
    nll, classes, weights = pixel_losses(
        logits, labels, ignore_label=ignore_label, class_weights=class_weights, upper_bound=upper_bound
    )
    valid = classes < logits.shape[-1]
    # (parts, images, h, w); 2 for ignored pixels, which no bound reaches
    p = split_batch(jnp.where(valid, jnp.exp(-jax.lax.stop_gradient(nll)), 2.0), images_per_device)
    total = p[0].size
    wanted = int(min_kept * total) if min_kept < 1 else int(min_kept)
    number = jnp.sum(p <= 1, axis=(1, 2, 3), keepdims=True, dtype=jnp.int32)
    if inclusive:
        bound = kth_smallest(p, wanted, (1, 2, 3), at_least=threshold)  # 1 if wanted > number
        easy = p > bound
    else:
        bound = kth_smallest(p, jnp.minimum(wanted + 1, number), (1, 2, 3), at_least=threshold)
        easy = p >= bound
    # not easy, instead of hard: nan compares as false, so that a nan remains in the loss and is noticed
    return reduce_pixels(nll, valid & ~easy.reshape(valid.shape), weights, weight_mode=weight_mode)
