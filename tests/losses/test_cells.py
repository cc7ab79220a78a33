"""Counts of labels in several grids at once: exact, and from one look at the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.losses import Grid, count_classes, grid_of
from tests import loss_oracles as oracle
from tests.jaxprs import results
from tests.losses.test_soft_targets import spans

# nested cells; bins that overlap and do not nest; cells beyond the image, and cells that do not reach its end
NESTED = [Grid(8, 12, 5, 2), Grid(4, 6, 5, 4), Grid(2, 3, 5, 8), Grid(1, 1, 5), Grid(4, 3, 5)]
CROSSING = [Grid(5, 7, 5), Grid(3, 6, 3), Grid(6, 9, 5, 3), Grid(7, 11, 5, 2), Grid(3, 4, 2, 9)]


def by_hand(labels, grid):
    rows, columns = (spans(n, m, grid.cell) for n, m in zip(labels.shape[-2:], grid[:2]))
    counts = [
        [(labels[..., a:b, c:d, None] == np.arange(grid.classes)).sum((-3, -2)) for c, d in columns] for a, b in rows
    ]
    return np.moveaxis(counts, (0, 1), (-3, -2))


LARGE = [Grid(1, 1, 5), Grid(3, 2, 5), Grid(2, 1, 5, 40)]  # cells of more pixels than a tile has


@pytest.mark.parametrize(
    "size, grids",
    [((16, 24), NESTED), ((16, 24), NESTED + CROSSING), ((70, 45), LARGE)],
    ids=["nested", "all", "large"],
)
def test_counts_of_all_grids(size, grids):
    labels = oracle.blocks(0, (6, *size), void=0.4).reshape(2, 3, *size)
    labels[0, 0, :3, :3] = 77  # no class
    found = jax.jit(lambda y: list(count_classes(y, grids).values()))(labels)
    for grid, counts in zip(grids, found, strict=True):
        assert counts.dtype == jnp.int32
        np.testing.assert_array_equal(counts, by_hand(labels, grid), err_msg=str(grid))


def test_another_ignore_label():
    labels = np.array([[[0, 1], [2, 2]]])
    assert count_classes(labels, [Grid(1, 1, 3)], 2)[Grid(1, 1, 3)].tolist() == [[[[1, 1, 0]]]]


def test_nested_grids_look_at_every_pixel_once():
    labels = jnp.zeros((1, 768, 768), jnp.int32)
    grids = [Grid(768 // s, 768 // s, 19, s) for s in (64, 32, 16, 8)] + [Grid(n, n, 19) for n in (8, 4, 2, 1)]
    count = lambda y: list(count_classes(y, grids).values())  # noqa: E731
    of_pixels = [np.prod(shape) for shape in results(count, labels, dtype=bool)]
    assert [size for size in of_pixels if size > labels.size] == [19 * labels.size]
    tiles = [shape for shape in results(count, labels, dtype=jnp.int32) if shape[-1:] == (19,) and len(shape) == 4]
    assert max(tiles, key=np.prod) == (1, 96, 96, 19)


def test_an_output_that_is_no_map():
    assert grid_of((2, 3, 4, 5), 8) == Grid(3, 4, 5, 8)
    with pytest.raises(UserError, match=r"shape \(2, 5\) has no cells"):
        grid_of((2, 5), 8)
