"""Weights of classes: given, or computed from each image's own histogram."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.typing import Array


def histogram_weights(counts: Array, upper_bound: float, *, void: Array | float = 0.0) -> jax.Array:
    """Returns 1 + upper_bound * (1 - frequency) for classes in the image, 1 for the others, (..., k) float32.

    counts: (..., k), pixels of each class.
    upper_bound: 1 for Cityscapes and KITTI, 6 for Mapillary, as in the code released with VPLR.
    void: (...), pixels of no class, which are part of the total of the frequencies.

    Source: code released with VPLR (NVIDIA/semantic-segmentation, branch sdcnet). It has one error, which is not
    repeated here: if the label of void is k, void pixels count as the last class.
    """
    counts = jnp.asarray(counts, jnp.float32)
    total = counts.sum(axis=-1, keepdims=True) + jnp.asarray(void, jnp.float32)[..., None]
    frequency = counts / jnp.maximum(total, 1.0)
    return jnp.where(counts > 0, 1.0 + upper_bound * (1.0 - frequency), 1.0)


def check_weights(class_weights: Sequence[float] | Array | None, upper_bound: float, labels: Array, num_classes: int):
    """Returns class_weights as float32 (k,) or (..., k), or None without. Raises UserError if they do not fit."""
    if not upper_bound >= 0:
        raise UserError(f"upper_bound={upper_bound!r} must be 0 (no weights by the histogram) or more.")
    if class_weights is None:
        return None
    if upper_bound:
        raise UserError(
            f"class_weights and upper_bound={upper_bound} both weigh the classes; keep one, or set upper_bound=0."
        )
    weights = jnp.asarray(class_weights, jnp.float32)
    if weights.shape not in {(num_classes,), (*labels.shape[:-2], num_classes)}:
        raise UserError(
            f"class_weights has shape {weights.shape}; {num_classes} classes need ({num_classes},), or "
            f"{(*labels.shape[:-2], num_classes)} with a row for every image."
        )
    return weights


def weight_of_class(weights: Array, c: int) -> jax.Array:
    """Returns weights[..., c] in a shape that multiplies maps (..., h, w); weights: (k,) or (..., k)."""
    return weights[..., c, None, None] if weights.ndim > 1 else weights[c]


def class_counts(labels: Array, num_classes: int) -> jax.Array:
    """Returns the number of pixels of each class, (..., k) int32; labels: (..., h, w) int, others do not count."""
    one_hot = labels[..., None] == jnp.arange(num_classes, dtype=labels.dtype)
    return jnp.sum(one_hot, axis=(-3, -2), dtype=jnp.int32)


def per_pixel_weight(weights: Array, classes: Array) -> jax.Array:
    """Returns the weight of each pixel's class, (..., h, w) float32; 0 for other labels.

    weights: (k,) or (..., k) float32.
    classes: (..., h, w) int.
    """
    # a sum over masks, not a gather: it fuses with its neighbours, and TPUs gather slowly
    return sum(jnp.where(classes == c, weight_of_class(weights, c), 0.0) for c in range(weights.shape[-1]))
