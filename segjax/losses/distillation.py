"""Distillation: the logits of a network against those of its teacher."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.losses.cross_entropy import count_true
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum


def distillation(
    logits: Array, labels: Array, teacher: Array, ignore_label: int = 255, *, unlabelled: bool = True
) -> Sum:
    """Returns the Kullback-Leibler divergence KL(softmax(teacher) || softmax(logits)), summed over pixels and classes.

    Its mean is over pixels and classes, as torch's KLDivLoss() has it, and thus the mean over pixels divided by k.

    logits: (..., h, w, k) float.
    labels: (..., h, w) int.
    teacher: (..., h, w, k) float, logits; they get no gradient.
    ignore_label: label of pixels without a label.
    unlabelled: whether these count too, as in the code released with GSVNet.
    """
    k = logits.shape[-1]
    ours = jax.nn.log_softmax(jnp.asarray(logits).astype(jnp.float32))
    theirs = jax.nn.log_softmax(jax.lax.stop_gradient(jnp.asarray(teacher).astype(jnp.float32)))
    value = jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1)
    kept = jnp.full(labels.shape, True) if unlabelled else is_class(labels, k, ignore_label)
    return Sum(jnp.where(kept, value, 0.0).sum(), k * count_true(kept))
