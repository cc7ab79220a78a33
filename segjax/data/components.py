"""Connected components of all classes of a label at once, from its runs: neighbours in a row with one class.

A street scene has a million pixels and some thousand runs, so that what follows the search for runs costs little. A
search in the mask of each class takes 3 to 5 times as long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph


class Runs(NamedTuple):
    """The n runs of a label, in the order of their pixels.

    classes: int (n,), train ids.
    rows: int (n,), y.
    left, right: int (n,), x of the first and of the last pixel.
    """

    classes: np.ndarray
    rows: np.ndarray
    left: np.ndarray
    right: np.ndarray


def find_runs(label: np.ndarray, num_classes: int) -> Runs:
    """Returns the runs of a label uint8 (h, w); pixels of num_classes and above belong to none."""
    height, width = label.shape
    first = np.ones((height, width), bool)
    np.not_equal(label[:, 1:], label[:, :-1], out=first[:, 1:])
    start = np.flatnonzero(first)
    last = np.append(start[1:], label.size) - 1
    classes = label.reshape(-1)[start].astype(np.int64)
    kept = classes < num_classes
    start, last, classes = start[kept], last[kept], classes[kept]
    rows = start // width
    return Runs(classes, rows, start - rows * width, last - rows * width)


def connect(runs: Runs, width: int, *, connectivity: int) -> tuple[int, np.ndarray]:
    """Returns the number of components k, and the component of each run, int (n,), 0 .. k - 1 in any order.

    width: of the label, in pixels.
    connectivity: 4 or 8 neighbours.
    """
    reach = 1 if connectivity == 8 else 0
    below = (runs.rows + 1) * width
    # runs of the next row that end at or after the left neighbour, and begin at or before the right one
    low = np.searchsorted(runs.rows * width + runs.right, below + np.maximum(runs.left - reach, 0))
    high = np.searchsorted(
        runs.rows * width + runs.left, below + np.minimum(runs.right + reach, width - 1), side="right"
    )
    counts = high - low
    one = np.repeat(np.arange(len(counts)), counts)
    other = np.arange(len(one)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    same = runs.classes[one] == runs.classes[other]
    one, other = one[same], other[same]
    graph = scipy.sparse.coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(counts), len(counts)))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)


def component_places(
    label: np.ndarray, num_classes: int, *, min_area: int, inside: bool, connectivity: int
) -> np.ndarray:
    """Returns class, y, x and area of each component, int32 (m, 4).

    Components come class after class. Those of a class come in the order of their first pixel, for 8 neighbours in
    that of their first block of 2x2 pixels (within the rectangle around the class), in which OpenCV numbers them, too.

    Arguments as in `component_centroids`.
    """
    runs = find_runs(label, num_classes)
    if not len(runs.rows):
        return np.zeros((0, 4), np.int32)
    count, component = connect(runs, label.shape[1], connectivity=connectivity)
    sizes = runs.right - runs.left + 1
    areas = np.bincount(component, sizes, count).astype(np.int64)
    cy = np.bincount(component, runs.rows * sizes, count).astype(np.int64) // areas
    cx = np.bincount(component, (runs.left + runs.right) * sizes, count).astype(np.int64) // (2 * areas)

    order = np.argsort(component, kind="stable")  # runs of a component are neighbours in it, still in their order
    starts = np.searchsorted(component[order], np.arange(count))
    classes = runs.classes[order[starts]]
    if inside:
        # of each run the pixel nearest to the centre; of the runs the first of those with the nearest pixel
        x = np.clip(cx[component], runs.left, runs.right)
        distance = (runs.rows - cy[component]) ** 2 + (x - cx[component]) ** 2
        nearest = np.minimum.reduceat(distance[order], starts)
        hits = np.flatnonzero(distance == nearest[component])[::-1]
        best = np.zeros(count, np.int64)
        best[component[hits]] = hits  # the last assignment, that of the first run, remains
        cy, cx = runs.rows[best], x[best]
    first = np.minimum.reduceat(_scan_order(runs, num_classes, blocks=connectivity == 8)[order], starts)
    found = np.stack([classes, cy, cx, areas], axis=1)[np.lexsort((first, classes))]
    return found[found[:, 3] >= min_area].astype(np.int32)


def _scan_order(runs: Runs, num_classes: int, *, blocks: bool) -> np.ndarray:
    """Returns numbers that order the first pixels of runs, or their blocks, within the rectangle around their class."""
    top, left = np.full(num_classes, 1 << 30), np.full(num_classes, 1 << 30)
    np.minimum.at(top, runs.classes, runs.rows)
    np.minimum.at(left, runs.classes, runs.left)
    side = 2 if blocks else 1
    return ((runs.rows - top[runs.classes]) // side << 32) + (runs.left - left[runs.classes]) // side
