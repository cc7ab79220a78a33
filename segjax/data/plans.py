"""Epoch plans: which records an epoch shows, and around which place of each; pure functions of (seed, epoch).

A plan knows numbers only: records of one source, or of several that were joined, and places in them. Every host builds
the same epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from segjax.data.centroids import Centroids, concatenate, find_centroids
from segjax.data.random import PLAN, generator
from segjax.data.sources import Source
from segjax.errors import UserError, did_you_mean


class Epoch(NamedTuple):
    """The n samples of an epoch, in order.

    records: int32 (n,). places: int32 (n, 2) y, x that the crop must show, -1 = anywhere. classes: int32 (n,) what is
    at these places, -1 = anywhere.
    """

    records: np.ndarray
    places: np.ndarray
    classes: np.ndarray


class EpochPlan(Protocol):
    """What the pipeline asks of a plan."""

    seed: int

    def length_of(self, epoch: int) -> int:
        """Samples of an epoch."""

    def build(self, epoch: int) -> Epoch:
        """The samples of an epoch; calling it twice gives the same."""


@dataclasses.dataclass(frozen=True)
class UniformPlan:
    """Every record once per epoch, in random order. records: how many, or their numbers (n,)."""

    records: int | np.ndarray
    seed: int = 0

    @property
    def length(self) -> int:
        """Number of records."""
        return len(_numbers(self.records))

    def length_of(self, epoch: int) -> int:
        """The same in every epoch."""
        return self.length

    def build(self, epoch: int) -> Epoch:
        """A permutation of the records."""
        records = generator(self.seed, PLAN, epoch).permutation(_numbers(self.records)).astype(np.int32)
        return Epoch(records, np.full((len(records), 2), -1, np.int32), np.full(len(records), -1, np.int32))


@dataclasses.dataclass(frozen=True)
class ClassPlan:
    """A share of the epoch around places, the same number for every class, and the rest anywhere in random records.

    With N records and K classes: q = int(N * share / K) places of every class and R = N - K * q records (VPLR, class
    uniform sampling: share 0.5 and the places of tiles; CSST, centroid sampling: share 1 and those of components). A
    class with fewer places repeats them; the quota of a class that has none goes to the random records, so that every
    epoch has N samples.

    records: how many, or their numbers; N and the random part. centroids: places, also of other records than these:
    propagated frames, or coarsely labelled images for rare classes, add to the places and not to N (VPLR, section 3.3).
    """

    records: int | np.ndarray
    centroids: Centroids
    num_classes: int
    share: float = 0.5
    seed: int = 0

    def __post_init__(self):
        if not 0.0 <= self.share <= 1.0:
            raise UserError(f"sampler.share={self.share} must be from 0 to 1, the part of an epoch around places.")

    @property
    def length(self) -> int:
        """Number of records N."""
        return len(_numbers(self.records))

    def length_of(self, epoch: int) -> int:
        """The same in every epoch."""
        return self.length

    @property
    def quota(self) -> int:
        """Places of each class per epoch, q."""
        return int(self.length * self.share / self.num_classes)

    def build(self, epoch: int) -> Epoch:
        """Draws from every class and from the records, then mixes all of them."""
        rng = generator(self.seed, PLAN, epoch)
        rows = [_draw(rng, np.flatnonzero(self.centroids.classes == c), self.quota) for c in range(self.num_classes)]
        chosen = np.concatenate(rows)
        anywhere = _draw(rng, _numbers(self.records), self.length - len(chosen))
        records = np.concatenate([self.centroids.records[chosen], anywhere]).astype(np.int32)
        places = np.concatenate([self.centroids.places[chosen], np.full((len(anywhere), 2), -1)]).astype(np.int32)
        classes = np.concatenate([self.centroids.classes[chosen], np.full(len(anywhere), -1)]).astype(np.int32)
        order = rng.permutation(len(records))
        return Epoch(records[order], places[order], classes[order])


@dataclasses.dataclass(frozen=True)
class CutPlan:
    """One plan for epochs 0 .. epoch, another for the later ones (VPLR's max_cu_epoch: then real images only)."""

    first: EpochPlan
    later: EpochPlan
    epoch: int

    @property
    def seed(self) -> int:
        """That of the first plan."""
        return self.first.seed

    @property
    def length(self) -> int:
        """Samples of epoch 0."""
        return self.length_of(0)

    def _of(self, epoch: int) -> EpochPlan:
        return self.first if epoch <= self.epoch else self.later

    def length_of(self, epoch: int) -> int:
        """Samples of an epoch."""
        return self._of(epoch).length_of(epoch)

    def build(self, epoch: int) -> Epoch:
        """The epoch of the plan that is in force."""
        return self._of(epoch).build(epoch)


def _numbers(records: int | np.ndarray) -> np.ndarray:
    return np.arange(records) if isinstance(records, (int, np.integer)) else np.asarray(records)


def _draw(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    # in random order, in another one each time all are used up, so that counts differ by 1 at most
    if not len(pool):
        return np.zeros(0, np.int64)
    rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
    return np.concatenate([np.zeros(0, np.int64), *rounds])[:count]


def uniform(source: Source, seed: int = 0, records: np.ndarray | None = None) -> UniformPlan:
    """Every record once per epoch; records: their numbers, by default all of the source."""
    return UniformPlan(len(source) if records is None else records, seed=seed)


def find_places(kind: str, source: Source, *, cache: str | None = None, tile: int = 1024, min_area: int = 1, **_):
    """The places that the plan of a name draws from in a source; None for one that draws from none. Other options of
    the plan do not matter here."""
    if kind == "class_uniform":
        return find_centroids(source, "tiles", cache=cache, tile=tile, min_area=min_area)
    if kind == "centroid":
        return find_centroids(source, "components", cache=cache, min_area=min_area)
    return None


def class_uniform(
    source: Source,
    seed: int = 0,
    records: np.ndarray | None = None,
    extra: Sequence[Centroids] = (),
    cache: str | None = None,
    *,
    share: float = 0.5,
    tile: int = 1024,
    min_area: int = 1,
) -> ClassPlan:
    """VPLR's class uniform sampling (section 3.3): half of the epoch around places of classes in tiles.

    tile: side in pixels, 0 for whole images. min_area: pixels of a class that count. extra: places in other records.
    records: numbers of those that make up N and the random part, by default the source's.
    """
    found = find_places("class_uniform", source, cache=cache, tile=tile, min_area=min_area)
    records = len(source) if records is None else records
    return ClassPlan(records, concatenate([found, *extra]), source.num_classes, share=share, seed=seed)


def centroid(
    source: Source,
    seed: int = 0,
    records: np.ndarray | None = None,
    extra: Sequence[Centroids] = (),
    cache: str | None = None,
    *,
    share: float = 1.0,
    min_area: int = 1,
) -> ClassPlan:
    """CSST's centroid sampling (section 3.2): the epoch around connected components, N / K of every class.

    extra, records: see `class_uniform`.
    """
    found = find_places("centroid", source, cache=cache, min_area=min_area)
    records = len(source) if records is None else records
    return ClassPlan(records, concatenate([found, *extra]), source.num_classes, share=share, seed=seed)


PLANS: dict[str, Callable[..., EpochPlan]] = {
    "uniform": uniform,
    "class_uniform": class_uniform,
    "centroid": centroid,
}


def create(kind: str, source: Source, **options: Any) -> EpochPlan:
    """The plan of a name; UserError with a suggestion for one that is not known."""
    if kind not in PLANS:
        raise UserError(f"sampler.kind={kind!r} is not known.{did_you_mean(kind, PLANS)}")
    return PLANS[kind](source, **options)
