"""Auxiliary loss of Ladder DenseNets: coarse predictions against the share of each class in their cells."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from segjax.losses.cells import Grid, count_classes, grid_of
from segjax.losses.cross_entropy import count_true
from segjax.typing import Array, Sum


def soft_target_cross_entropy(
    logits: Array, labels: Array, cells: Mapping[Grid, Array] | None = None, ignore_label: int = 255, *, cell: int = 0
) -> Sum:
    """Returns -sum over classes of share * log softmax(logits), summed over the valid cells.

    A cell is valid if less than half of it is ignored.

    logits: (..., h', w', k) float, at the network's resolution, not resized.
    labels: (..., h, w) int; ignored are `ignore_label` and labels outside 0..k-1.
    cells: counts of these labels, see `count_classes`, if the grid of the logits is among them. None = counted here.
    ignore_label: label of pixels that do not count.
    cell: side of a cell in pixels, usually the stride of the output; pixels beyond the image are ignored. An axis that
        such cells do not cover, and every axis for 0, has the bins of `ops.adaptive_avg_pool`, which may overlap.

    Raises UserError for a cell that is no side in pixels, and for logits that are no map.
    """
    logits = jnp.asarray(logits).astype(jnp.float32)
    grid = grid_of(logits.shape, cell)
    counts = (count_classes(labels, [grid], ignore_label) if cells is None else cells)[grid]
    targets, valid = _shares(counts, grid, labels.shape[-2:])
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
    cell: see `soft_target_cross_entropy`.

    Raises UserError for a cell that is no side in pixels.

    Sources: Kreso et al., "Efficient Ladder-style DenseNets", section 5.1, eq. (2); the rule for ignored pixels is that
    of the released code (ivankreso/LDN). Bins, if such windows do not fit, are ours.
    """
    grid = grid_of((*size, num_classes), cell)
    return _shares(count_classes(labels, [grid], ignore_label)[grid], grid, labels.shape[-2:])


def _shares(counts: Array, grid: Grid, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Returns (targets, valid) of `soft_targets` from the counts of its grid over an image of size (h, w)."""
    labelled = counts.sum(axis=-1)
    targets = counts.astype(jnp.float32) / jnp.maximum(labelled, 1)[..., None]
    return targets, 2 * labelled > grid.areas(size)
