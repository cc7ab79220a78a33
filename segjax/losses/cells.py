"""The number of pixels of each class in the cells of grids over an image; several grids look at the pixels once.

The edges of all cells of all grids cut the image into tiles. If the grids nest, these are the cells of the finest one,
or pieces of its large cells. The classes are counted in the tiles. The count of a cell is the sum over its tiles, and
exact: it is an integer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.ops.fence import fenced
from segjax.ops.pooling import bin_edges
from segjax.ops.windows import is_class
from segjax.typing import Array

LONGEST = (
    32  # pixels along a tile: XLA's CPU code adds up so many in one loop with the comparison of labels and classes
)
Spans = tuple[np.ndarray, np.ndarray]  # first pixel and end of each cell along one axis, int (n,) each


class Grid(NamedTuple):
    """Cells over an image, and the classes that are counted in them.

    rows, columns: number of cells.
    classes: number of classes, from 0.
    cell: side of a cell in pixels, usually the stride of an output; pixels beyond the image are ignored. An axis that
        such cells do not cover, and every axis for 0, has the bins of `ops.adaptive_avg_pool`, which may overlap.
    """

    rows: int
    columns: int
    classes: int
    cell: int = 0

    def spans(self, size: tuple[int, int]) -> tuple[Spans, Spans]:
        """Returns the cells along the rows and the columns of an image of size (h, w)."""
        return _spans(size[0], self.rows, self.cell), _spans(size[1], self.columns, self.cell)

    def areas(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the pixels of each cell, those beyond an image of size (h, w) included; int (rows, columns)."""
        return np.outer(*(end - first for first, end in self.spans(size)))


def grid_of(shape: Sequence[int], cell: int) -> Grid:
    """Returns the grid of an output: a cell for each of its positions.

    shape: of the logits, (..., rows, columns, classes).
    cell: see `Grid`.

    Raises UserError for a side that is not a whole number of at least 0, and for an output that is no map.
    """
    if len(shape) < 3:
        raise UserError(f"soft targets: an output of shape {tuple(shape)} has no cells; name an output that is a map.")
    if not isinstance(cell, int) or isinstance(cell, bool) or cell < 0:
        raise UserError(f"soft targets: cell={cell!r} must be a side in pixels, such as 8, or 0 for an even division.")
    return Grid(*map(int, shape[-3:]), cell)


def count_classes(labels: Array, grids: Sequence[Grid], ignore_label: int = 255) -> dict[Grid, jax.Array]:
    """Returns for each grid the number of labelled pixels by cell and class, (..., rows, columns, classes) int32.

    labels: (..., h, w) int; ignored are `ignore_label`, and labels outside the classes of the grid.
    grids: one or more.
    ignore_label: label of pixels that do not count.
    """
    size, classes = labels.shape[-2:], max(grid.classes for grid in grids)
    spans = [grid.spans(size) for grid in grids]
    cuts = [_cuts([span[axis] for span in spans]) for axis in (0, 1)]
    x = jnp.where(is_class(labels, classes, ignore_label), labels, classes).astype(jnp.int32)
    for axis, cut in zip((-2, -1), cuts):
        x = _unfold(x, axis, (cut[:-1], cut[1:]), classes)
    tiles = _count(x, classes)
    return {grid: _add_up(tiles, span, cuts)[..., : grid.classes] for grid, span in zip(grids, spans)}


def _cuts(spans: Sequence[Spans]) -> np.ndarray:
    """Returns the edges of the tiles along one axis, int (tiles + 1,): of all cells, and between distant ones."""
    edges = np.unique(np.concatenate([edges for span in spans for edges in span]))
    pieces = [np.linspace(a, b, -(-(b - a) // LONGEST), endpoint=False, dtype=int) for a, b in zip(edges, edges[1:])]
    return np.concatenate([*pieces, edges[-1:]])


# called, so that XLA's CPU code does not join this sum with those of the cells: it keeps all terms of a long sum
@functools.partial(fenced, static_argnums=1)
def _count(x: Array, classes: int) -> jax.Array:
    """Returns the pixels of each class, (..., tile rows, tile columns, classes) int32.

    x: (..., tile rows, high, tile columns, wide) int32, with `classes` for pixels that do not count.
    """
    return jnp.sum(x[..., None] == jnp.arange(classes), axis=(-4, -2), dtype=jnp.int32)


def _spans(size: int, cells: int, cell: int) -> Spans:
    """Returns the cells along an axis of `size` pixels, see `Grid`."""
    if cell and cells * cell >= size:
        return np.arange(cells) * cell, np.arange(1, cells + 1) * cell
    return bin_edges(size, cells)


def _add_up(tiles: Array, spans: tuple[Spans, Spans], cuts: Sequence[np.ndarray]) -> jax.Array:
    """Returns the sums over the tiles of each cell; tiles: (..., tile rows, tile columns, k), cut at `cuts`."""
    for axis, (span, cut) in enumerate(zip(spans, cuts), start=-3):
        first, end = (np.searchsorted(cut, edges) for edges in span)
        tiles = _unfold(tiles, axis, (first, end), 0).sum(axis=axis, dtype=jnp.int32)
    return tiles


def _unfold(x: Array, axis: int, spans: Spans, fill: int) -> jax.Array:
    """Returns x with the axis split into (spans, places of the longest span).

    axis: negative; the new axes are axis - 1 and axis.
    fill: value behind shorter spans and beyond the end of the axis.
    """
    first, end = spans
    size, longest = x.shape[axis], int((end - first).max())
    places = first[:, None] + np.arange(longest)
    places = np.where(places < end[:, None], places, size).ravel()
    shape = (*x.shape[:axis], len(first), longest, *x.shape[x.ndim + axis + 1 :])
    if np.array_equal(places, np.arange(len(places))):  # equal spans side by side: nothing moves
        widths = [(0, len(places) - size if i == x.ndim + axis else 0, 0) for i in range(x.ndim)]
        return jax.lax.pad(x, jnp.array(fill, x.dtype), widths).reshape(shape)
    return jnp.take(x, np.minimum(places, size), axis=axis, mode="fill", fill_value=fill).reshape(shape)
