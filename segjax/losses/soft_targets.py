"""Auxiliary loss of Ladder DenseNets: coarse predictions against the share of each class in their cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.losses.cross_entropy import count_true
from segjax.ops.windows import is_class
from segjax.typing import Array, Sum


def soft_target_cross_entropy(logits: Array, labels: Array, ignore_label: int = 255, *, cell: int = 0) -> Sum:
    """Returns -sum over classes of share * log softmax(logits), summed over the valid cells.

    A cell is valid if more than half of its pixels are labelled.

    logits: (..., h', w', k) float, at the network's resolution, not resized.
    labels: (..., h, w) int; ignored are `ignore_label` and labels outside 0..k-1.
    ignore_label: label of pixels that do not count.
    cell: see `soft_targets`.

    Raises UserError if the logits' grid does not cover the image.
    """
    logits = jnp.asarray(logits).astype(jnp.float32)
    targets, valid = soft_targets(labels, logits.shape[-1], logits.shape[-3:-1], ignore_label=ignore_label, cell=cell)
    value = -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)
    return Sum(jnp.where(valid, value, 0.0).sum(), count_true(valid))


def soft_targets(
    labels: Array, num_classes: int, size: tuple[int, int], *, ignore_label: int = 255, cell: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Returns the share of every class in each cell of a grid over the image, and which cells count.

    targets: (..., h', w', k) float32, shares of the labelled pixels, which sum to 1 in a cell with any.
    valid: (..., h', w') bool, whether less than half of the cell is ignored.

    labels: (..., h, w) int; ignored are `ignore_label` and labels outside 0..num_classes-1.
    num_classes: k.
    size: (h', w'), cells of the grid.
    ignore_label: label of pixels that do not count.
    cell: side of a cell in pixels, usually the stride of the network; pixels beyond the image are ignored. 0 = the grid
        divides the image evenly.

    Raises UserError if the grid does not cover the image. Sources: Kreso et al., "Efficient Ladder-style DenseNets",
    section 5.1, eq. (2); the rule for ignored pixels is that of the released code (ivankreso/LDN).
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
