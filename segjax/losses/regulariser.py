"""Model regulariser of confidence-regularised self-training: it rewards a smooth output."""

from __future__ import annotations

import jax.numpy as jnp

from segjax.losses.cross_entropy import count_true
from segjax.losses.negative_log import soft_nll
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum


def model_regulariser(logits: Array, labels: Array, ignore_label: int = 255) -> Sum:
    """Returns -mean over the k classes of log softmax(logits), summed over the valid pixels (CRST-MR; CSST, eq. 7).

    It is the cross entropy with a share of 1 / k for every class: at least log k, which equal logits reach. Eq. (7)
    contains the sum over pixels without a weight. CSST does not give one, so the weight is that of the term.

    logits: (..., h, w, k) float.
    labels: (..., h, w) int, for the choice of pixels only; ignored are `ignore_label` and labels outside 0..k-1.
    ignore_label: label of pixels that do not count.
    """
    k = logits.shape[-1]
    valid = is_class(labels, k, ignore_label)
    value = soft_nll(jnp.asarray(logits).astype(jnp.float32), jnp.full(logits.shape, 1.0 / k, jnp.float32))
    return Sum(jnp.where(valid, value, 0.0).sum(), count_true(valid))
