"""Cross entropy with the most probable classes of a teacher and their probabilities: soft pseudo labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.losses.cross_entropy import count_true
from segjax.losses.negative_log import soft_nll
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum


def top_k_cross_entropy(
    logits: Array, labels: Array, soft_ids: Array, soft_shares: Array, ignore_label: int = 255
) -> Sum:
    """Returns -sum over the kept classes of p * log softmax(logits), summed over the valid pixels (CSST, eq. 6).

    p: probability that the teacher gave to the class, divided by the sum over the kept classes. The paper keeps the
    top-k probabilities, and does not say that they are divided; undivided ones would weigh unsure pixels less.

    logits: (..., h, w, k) float.
    labels: (..., h, w) int; pixels with `ignore_label` or a label outside 0..k-1 do not count.
    soft_ids: (..., h, w, n) int, the kept classes; those outside 0..k-1 are empty places.
    soft_shares: (..., h, w, n) float, their probabilities, in any unit. A pixel whose shares are all 0 does not count.
    ignore_label: label of pixels that do not count.
    """
    shares, kept = class_shares(soft_ids, soft_shares, logits.shape[-1])
    valid = is_class(labels, logits.shape[-1], ignore_label) & kept
    value = soft_nll(jnp.asarray(logits).astype(jnp.float32), shares)
    return Sum(jnp.where(valid, value, 0.0).sum(), count_true(valid))


def class_shares(ids: Array, shares: Array, num_classes: int) -> tuple[jax.Array, jax.Array]:
    """Returns (share of every class (..., k) float32, which sum to 1; whether there are any, (...) bool).

    ids: (..., n) int; those outside 0..k-1 are empty places.
    shares: (..., n) float, 0 or more, in any unit.
    num_classes: k.
    """
    found = jnp.asarray(ids)[..., None, :] == jnp.arange(num_classes)[:, None]
    total = jnp.where(found, jnp.asarray(shares, jnp.float32)[..., None, :], 0.0).sum(axis=-1)
    whole = total.sum(axis=-1, keepdims=True)
    return total / jnp.where(whole > 0, whole, 1.0), whole[..., 0] > 0
