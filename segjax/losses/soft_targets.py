"""Auxiliary loss of coarse predictions against the share of each class in their cells (Ladder DenseNets)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.losses.cross_entropy import count_true
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum


def soft_target_cross_entropy(logits: Array, labels: Array, ignore_label: int = 255, *, cell: int = 0) -> Sum:
    """-sum over classes of share * log softmax(logits), summed over the cells that are at least half labelled.

    logits: (..., h', w', k) float at the resolution the network gives them; do not resize them.
    labels: (..., h, w) int; `ignore_label` and everything outside 0..k-1 is ignored.
    cell: see `soft_targets`.
    """
    logits = jnp.asarray(logits).astype(jnp.float32)
    targets, valid = soft_targets(labels, logits.shape[-1], logits.shape[-3:-1], ignore_label=ignore_label, cell=cell)
    value = -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)
    return Sum(jnp.where(valid, value, 0.0).sum(), count_true(valid))


def soft_targets(
    labels: Array, num_classes: int, size: tuple[int, int], *, ignore_label: int = 255, cell: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Share of every class in each cell of a grid over the image, and which cells count.

    labels: (..., h, w) int. size: (h', w') cells.
    cell: side of a cell in pixels, as the stride of the network; cells that reach beyond the image see ignored pixels
        there. 0 = the grid divides the image evenly.
    Returns (targets (..., h', w', k) float32, the shares among the labelled pixels, which sum to 1; valid
    (..., h', w') bool, less than half of the cell is ignored).

    Raises UserError where the grid does not cover the image. Source: fact sheet of LDN, 1.5.
    """
    labels = jnp.where(is_class(labels, num_classes, ignore_label), labels, num_classes).astype(jnp.int32)
    (h, w), (rows, columns) = labels.shape[-2:], size
    high, wide = (cell, cell) if cell else (h // rows, w // columns)
    short = (rows * high - h, columns * wide - w)
    if min(short) < 0 or (not cell and max(short) > 0):
        raise UserError(
            f"soft targets: {rows}x{columns} cells{f' of {cell} pixels' if cell else ''} do not cover an image of "
            f"{h}x{w}; choose a crop that is a multiple of the grid, or give cell (the stride of the output)."
        )
    padding = [(0, 0)] * (labels.ndim - 2) + [(0, n) for n in short]
    labels = jnp.pad(labels, padding, constant_values=num_classes)
    cells = labels.reshape(*labels.shape[:-2], rows, high, columns, wide)
    counts = jnp.sum(cells[..., None] == jnp.arange(num_classes), axis=(-4, -2), dtype=jnp.int32)
    labelled = counts.sum(axis=-1)
    targets = counts.astype(jnp.float32) / jnp.maximum(labelled, 1)[..., None]
    return targets, 2 * labelled > high * wide
