"""Auxiliary losses at low resolution against the share of each class in a cell (Ladder DenseNets, section 3.4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.losses.cross_entropy import valid_pixels
from segjax.typing import Array, Sum


def soft_targets(
    labels: Array, size: tuple[int, int], num_classes: int, *, ignore_label: int = 255
) -> tuple[Array, Array]:
    """Share of every class in each cell of an even grid over the image, and which cells are mostly labelled.

    labels: (b, h, w) int. size: (h', w') cells, which divide (h, w).
    Returns (targets (b, h', w', k) float32 that sum to 1, valid (b, h', w') bool: less than half is ignored).
    """
    b, h, w = labels.shape
    rows, columns = size
    if h % rows or w % columns:
        raise ValueError(f"soft targets need a grid that divides the labels, got {size} cells for {h}x{w} pixels")
    real = valid_pixels(labels, num_classes, ignore_label)
    labels = jnp.where(real, labels, -1)
    cells = labels.reshape(b, rows, h // rows, columns, w // columns)
    counts = (cells[..., None] == jnp.arange(num_classes)).sum((2, 4)).astype(jnp.float32)
    known = counts.sum(-1)
    valid = known > 0.5 * (h // rows) * (w // columns)
    return counts / jnp.maximum(known, 1.0)[..., None], valid


def soft_target_cross_entropy(logits: Array, labels: Array, *, ignore_label: int = 255) -> Sum:
    """Sum over valid cells of -sum_c share_c log softmax(logits)_c, and their number.

    logits: (b, h', w', k) float at any resolution that divides that of the labels, (b, h, w) int.
    """
    logits = logits.astype(jnp.float32)
    targets, valid = soft_targets(labels, logits.shape[-3:-1], logits.shape[-1], ignore_label=ignore_label)
    value = -(targets * jax.nn.log_softmax(logits)).sum(-1)
    return Sum(jnp.where(valid, value, 0.0).sum(), valid.sum().astype(jnp.float32))
