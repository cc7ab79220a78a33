"""Records beside the real ones, and the places from which a plan draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from segjax.data.centroid_search import find_centroids
from segjax.data.centroids import Centroids
from segjax.data.sources import Source


def find_places(kind: str, source: Source, *, cache: str | None = None, tile: int = 1024, min_area: int = 1, **_):
    """Returns the places in a source from which the plan of a name draws; None for a plan without places.

    cache: folder, see `find_centroids`. tile, min_area: options of that plan; its other options are ignored.
    """
    if kind == "class_uniform":
        return find_centroids(source, "tiles", cache=cache, tile=tile, min_area=min_area)
    if kind == "centroid":
        return find_centroids(source, "components", cache=cache, min_area=min_area)
    return None


@dataclasses.dataclass(frozen=True)
class Extra:
    """Records beside the real ones.

    name: for reports.
    source: the records, numbered from `first` in the joined source.
    in_epoch: whether they count for the length N of an epoch and its random part, or add places of classes only.
    classes: train ids whose places are taken, () = all.
    times: how often a uniform plan shows each record in an epoch.
    """

    name: str
    source: Source
    first: int
    in_epoch: bool = True
    classes: tuple[int, ...] = ()
    times: int = 1

    def places(self, kind: str, options: Mapping[str, Any], cache: Any) -> Centroids | None:
        """Returns the places from which the plan `kind` draws, numbered as in the joined source."""
        found = find_places(kind, self.source, cache=cache, **options)
        if found is None:
            return None
        return (found.of_classes(self.classes) if self.classes else found).moved(self.first)
