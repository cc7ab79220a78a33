"""Weights of classes: given ones, or those that each image's own histogram asks for."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.typing import Array


def histogram_weights(counts: Array, upper_bound: float, *, void: Array | float = 0.0) -> jax.Array:
    """1 + upper_bound * (1 - frequency) for the classes an image has, 1 for those it lacks.

    counts: (..., k), how often each class occurs. void: (...), what else belongs to the total of the frequencies.
    upper_bound: 1 for Cityscapes and KITTI, 6 for Mapillary. Returns (..., k) float32.

    Source: VPLR's release; fact sheet 1.3. Void never counts as the last class there (trap of 1.5).
    """
    counts = jnp.asarray(counts, jnp.float32)
    total = counts.sum(axis=-1, keepdims=True) + jnp.asarray(void, jnp.float32)[..., None]
    frequency = counts / jnp.maximum(total, 1.0)
    return jnp.where(counts > 0, 1.0 + upper_bound * (1.0 - frequency), 1.0)


def check_weights(class_weights: Sequence[float] | Array | None, upper_bound: float, labels: Array, num_classes: int):
    """class_weights as float32 (k,) or (..., k), or None; UserError where they cannot belong to these labels."""
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
    """weights[..., c] of (k,) or (..., k), shaped to multiply maps (..., h, w)."""
    return weights[..., c, None, None] if weights.ndim > 1 else weights[c]


def class_counts(labels: Array, num_classes: int) -> jax.Array:
    """How many pixels of each image have each class; (..., h, w) int -> (..., k) int32, other labels not counted."""
    one_hot = labels[..., None] == jnp.arange(num_classes, dtype=labels.dtype)
    return jnp.sum(one_hot, axis=(-3, -2), dtype=jnp.int32)


def per_pixel_weight(weights: Array, classes: Array) -> jax.Array:
    """Weight of each pixel's class; weights (k,) or (..., k), classes (..., h, w) int -> (..., h, w), 0 for others.

    A sum over masks, not a gather: it fuses, and TPUs gather slowly.
    """
    return sum(jnp.where(classes == c, weight_of_class(weights, c), 0.0) for c in range(weights.shape[-1]))
