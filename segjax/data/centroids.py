"""Places of classes: one pixel of every class in a tile (VPLR) or of every connected component (CSST)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from segjax.data.components import component_places


@dataclasses.dataclass(frozen=True)
class Centroids:
    """m places in records.

    records: int32 (m,), numbers of the records.
    classes: int32 (m,), train ids.
    places: int32 (m, 2), y and x in pixels.
    areas: int32 (m,), pixels.
    """

    records: np.ndarray
    classes: np.ndarray
    places: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def take(self, rows: np.ndarray) -> Centroids:
        """Returns some of the places. rows: their numbers, or a mask (m,)."""
        return Centroids(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    def of_classes(self, classes: Iterable[int]) -> Centroids:
        """Returns the places of some classes, for example of the rare ones in a coarsely labelled source."""
        return self.take(np.isin(self.classes, list(classes)))

    def moved(self, offset: int) -> Centroids:
        """Returns the places with `offset` added to the records, for a source that follows others in a longer one."""
        return dataclasses.replace(self, records=self.records + np.int32(offset))


class Pools:
    """The places of each class, by row: sorted once, so that an epoch is drawn without looking at all of them.

    order: int32 (m,), rows of the places, ascending within each class, class after class.
    starts: int (k + 1,), where each class begins in `order`.
    """

    def __init__(self, classes: np.ndarray, num_classes: int):
        # sorting small integers takes one pass
        small = classes.astype(np.uint8 if num_classes <= 256 else np.uint16)
        self.order = np.argsort(small, kind="stable").astype(np.int32)
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(small, minlength=num_classes)[:num_classes])])

    @property
    def counts(self) -> np.ndarray:
        """Number of places of each class, int (k,)."""
        return np.diff(self.starts)

    def of(self, number: int) -> np.ndarray:
        """Returns the rows of the places of a class."""
        return self.order[self.starts[number] : self.starts[number + 1]]


def concatenate(parts: Sequence[Centroids]) -> Centroids:
    """Returns the places of all parts, in order."""
    names = [field.name for field in dataclasses.fields(Centroids)]
    return Centroids(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def tile_centroids(
    label: np.ndarray,
    num_classes: int,
    *,
    tile: int = 1024,
    remainder: bool = True,
    min_area: int = 1,
    inside: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns one place for every class in every tile of a label: classes (m,), places (m, 2), areas (m,).

    label: uint8 (h, w), train ids.
    tile: side in pixels, 0 for the whole image.
    remainder: also use the strips that whole tiles leave at the right and at the bottom. The published code of VPLR
        ignores them, so that an image smaller than a tile has no place.
    min_area: pixels that a class must have in a tile.
    inside: take the pixel of the class that is nearest to its centre of mass; False takes the centre of mass itself,
        rounded down, which may lie on another class (published).
    """
    height, width = label.shape
    tile_h, tile_w = (tile, tile) if tile else (height, width)
    rows = range(0, height if remainder else height - tile_h + 1, tile_h)
    columns = range(0, width if remainder else width - tile_w + 1, tile_w)
    found: list[tuple[int, int, int, int]] = []
    for y in rows:
        for x in columns:
            part = label[y : y + tile_h, x : x + tile_w]
            found += [
                (c, y + cy, x + cx, area)
                for c, cy, cx, area in _centres(part, num_classes, min_area=min_area, inside=inside)
            ]
    return _columns(found)


def component_centroids(
    label: np.ndarray, num_classes: int, *, min_area: int = 1, inside: bool = True, connectivity: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns one place for every connected component of every class of a label, as `tile_centroids` does.

    min_area: pixels that a component must have.
    connectivity: 4 or 8 neighbours.
    """
    table = component_places(label, num_classes, min_area=min_area, inside=inside, connectivity=connectivity)
    return table[:, 0], table[:, 1:3], table[:, 3]


def _centres(label: np.ndarray, num_classes: int, *, min_area: int, inside: bool):
    height, width = label.shape
    # the counts of a class per row and per column yield its area and its centre of mass
    by_row = np.stack([np.bincount(row, minlength=256) for row in label])[:, :num_classes]
    by_column = np.stack([np.bincount(column, minlength=256) for column in np.ascontiguousarray(label.T)])
    areas = by_row.sum(axis=0)
    for c in np.flatnonzero(areas >= max(min_area, 1)):
        cy = int(by_row[:, c] @ np.arange(height) // areas[c])
        cx = int(by_column[:, c] @ np.arange(width) // areas[c])
        if inside and label[cy, cx] != c:
            cy, cx = _nearest(label == c, cy, cx)
        yield int(c), cy, cx, int(areas[c])


def _nearest(mask: np.ndarray, y: int, x: int) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    best = np.argmin((rows - y) ** 2 + (columns - x) ** 2)
    return int(rows[best]), int(columns[best])


def _columns(found: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(found, np.int32).reshape(-1, 4)
    return table[:, 0], table[:, 1:3], table[:, 3]
