"""Loss of predicting the classes in an image (semantic encoding loss of EncNet, Zhang et al., CVPR 2018)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum


def presence_cross_entropy(logits: Array, labels: Array, ignore_label: int = 255) -> Sum:
    """Returns the binary cross entropy of sigmoid(logits) for "the image has a pixel of the class", over all classes.

    logits: (..., k) float, one number per image and class.
    labels: (..., h, w) int at any size; ignored are `ignore_label` and labels outside 0..k-1. An image without any
        labelled pixel does not count.
    ignore_label: label of pixels that do not count.

    Raises UserError for logits that are a map.
    """
    logits, labels = jnp.asarray(logits).astype(jnp.float32), jnp.asarray(labels)
    if logits.ndim != labels.ndim - 1:
        raise UserError(
            f"presence_cross_entropy: logits of shape {logits.shape} are not one number per image and class for labels "
            f"of shape {labels.shape}; use it on an output such as EncNet's 'se'."
        )
    k = logits.shape[-1]
    labels = jnp.where(is_class(labels, k, ignore_label), labels, k).astype(jnp.int32)
    present = jnp.any(labels[..., None] == jnp.arange(k), axis=(-3, -2))
    counts = jnp.any(present, axis=-1, keepdims=True)
    # -log sigmoid(x) = softplus(-x), and -log(1 - sigmoid(x)) = softplus(x)
    value = jax.nn.softplus(jnp.where(present, -logits, logits))
    return Sum(jnp.where(counts, value, 0.0).sum(), counts.sum(dtype=jnp.float32) * k)
