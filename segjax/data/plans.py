"""Epoch plans: the records that an epoch shows, and the place of each; pure functions of (seed, epoch).

A plan contains numbers only: of the records of one source, or of several joined sources, and of places in them. Every
host builds the same epoch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from segjax.data.centroids import Centroids, concatenate, find_centroids
from segjax.data.random import PLAN, generator
from segjax.data.sources import Source
from segjax.errors import UserError, choose


class Epoch(NamedTuple):
    """The n samples of an epoch, in order.

    records: int32 (n,), numbers of the records.
    places: int32 (n, 2), y and x of a pixel that the crop must show, -1 = anywhere.
    classes: int32 (n,), train ids at these places, -1 = anywhere.
    """

    records: np.ndarray
    places: np.ndarray
    classes: np.ndarray


class EpochPlan(Protocol):
    """What the pipeline requires of a plan."""

    seed: int

    def length_of(self, epoch: int) -> int:
        """Returns the number of samples of an epoch."""

    def build(self, epoch: int) -> Epoch:
        """Returns the samples of an epoch, the same at every call."""


@dataclasses.dataclass(frozen=True)
class UniformPlan:
    """Every record once per epoch, in random order. records: their count, or their numbers (n,)."""

    records: int | np.ndarray
    seed: int = 0

    @property
    def length(self) -> int:
        """Number of records."""
        return len(_numbers(self.records))

    def length_of(self, epoch: int) -> int:
        """Returns the number of samples, the same in every epoch."""
        return self.length

    def build(self, epoch: int) -> Epoch:
        """Returns a permutation of the records."""
        records = generator(self.seed, PLAN, epoch).permutation(_numbers(self.records)).astype(np.int32)
        return Epoch(records, np.full((len(records), 2), -1, np.int32), np.full(len(records), -1, np.int32))


@dataclasses.dataclass(frozen=True)
class ClassPlan:
    """A share of the epoch around places, equally many of every class, and the rest anywhere in random records.

    With N records and K classes: q = int(N * share / K) places of every class, and R = N - K * q random records. VPLR's
    class uniform sampling has share 0.5 and the places of tiles; CSST's centroid sampling share 1 and the places of
    components. A class with fewer places repeats them. The quota of a class without places goes to the random records,
    so that every epoch has N samples.

    records: count or numbers of the N records of the random part.
    centroids: places, also in other records. Propagated frames, or coarsely labelled images for rare classes, add to
        the places and not to N (VPLR, section 4.1).
    num_classes: K.

    Raises UserError for a share outside 0..1.
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
        """Returns the number of samples, the same in every epoch."""
        return self.length

    @property
    def quota(self) -> int:
        """Number q of places of each class per epoch."""
        return int(self.length * self.share / self.num_classes)

    def build(self, epoch: int) -> Epoch:
        """Draws from every class and from the records, and shuffles them together."""
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
    """One plan for epochs 0 .. epoch, another for later ones (max_cu_epoch of VPLR's code: then real images only)."""

    first: EpochPlan
    later: EpochPlan
    epoch: int

    @property
    def seed(self) -> int:
        """Seed of the first plan."""
        return self.first.seed

    @property
    def length(self) -> int:
        """Number of samples of epoch 0."""
        return self.length_of(0)

    def _of(self, epoch: int) -> EpochPlan:
        return self.first if epoch <= self.epoch else self.later

    def length_of(self, epoch: int) -> int:
        """Returns the number of samples of an epoch."""
        return self._of(epoch).length_of(epoch)

    def build(self, epoch: int) -> Epoch:
        """Returns the samples of an epoch, from the plan that applies to it."""
        return self._of(epoch).build(epoch)


def _numbers(records: int | np.ndarray) -> np.ndarray:
    return np.arange(records) if isinstance(records, (int, np.integer)) else np.asarray(records)


def _draw(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    # a new random order each time the pool is used up, so that counts differ by 1 at most
    if not len(pool):
        return np.zeros(0, np.int64)
    rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
    return np.concatenate([np.zeros(0, np.int64), *rounds])[:count]


def uniform(source: Source, seed: int = 0, records: np.ndarray | None = None) -> UniformPlan:
    """Returns the plan of every record once per epoch; records: their numbers, by default all of the source."""
    return UniformPlan(len(source) if records is None else records, seed=seed)


def find_places(kind: str, source: Source, *, cache: str | None = None, tile: int = 1024, min_area: int = 1, **_):
    """Returns the places in a source from which the plan of a name draws; None for a plan without places.

    cache: folder, see `find_centroids`. tile, min_area: options of that plan; its other options are ignored.
    """
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
    """Returns the plan of VPLR's class uniform sampling (section 4.1): half of the epoch around classes in tiles.

    source: labelled images.
    records: numbers of the N records of the random part, by default all of the source.
    extra: places in other records.
    cache: folder, see `find_centroids`.
    share: see `ClassPlan`.
    tile: side in pixels, 0 for whole images.
    min_area: pixels that a class must have in a tile.

    Raises UserError for a share outside 0..1, and for a record without label.
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
    """Returns the plan of CSST's centroid sampling (section 3.2): the epoch around components, N / K of every class.

    Arguments and errors as in `class_uniform`; min_area: pixels that a connected component must have.
    """
    found = find_places("centroid", source, cache=cache, min_area=min_area)
    records = len(source) if records is None else records
    return ClassPlan(records, concatenate([found, *extra]), source.num_classes, share=share, seed=seed)


PLANS: dict[str, Callable[..., EpochPlan]] = {"uniform": uniform, "class_uniform": class_uniform, "centroid": centroid}


@dataclasses.dataclass(frozen=True)
class Extra:
    """Records beside the real ones.

    name: for reports.
    source: the records, numbered from `first` in the joined source.
    in_epoch: whether they count for the length N of an epoch and its random part, or add places of classes only.
    classes: train ids whose places are taken, () = all.
    """

    name: str
    source: Source
    first: int
    in_epoch: bool = True
    classes: tuple[int, ...] = ()

    def places(self, kind: str, options: Mapping[str, Any], cache: Any) -> Centroids | None:
        """Returns the places from which the plan `kind` draws, numbered as in the joined source."""
        found = find_places(kind, self.source, cache=cache, **options)
        if found is None:
            return None
        return (found.of_classes(self.classes) if self.classes else found).moved(self.first)


def parts_of(source: Source, extras: Sequence[Extra]) -> dict[str, tuple[int, int]]:
    """Returns name -> (first, end) record of the real and the extra data, for `epoch_shares`."""
    return {"real": (0, len(source)), **{e.name: (e.first, e.first + len(e.source)) for e in extras}}


def make_plan(
    kind: str,
    options: Mapping[str, Any],
    source: Source,
    extras: Sequence[Extra] = (),
    *,
    seed: int = 0,
    cache: Any = None,
    cut_epoch: int | None = None,
    cut_places: str = "all",
) -> EpochPlan:
    """Builds the epoch plan of a training on real and extra records.

    kind, options: a key of PLANS, and what it accepts. source: the real records. cache: folder for places, or None.
    cut_epoch: epochs after this one (counted from 0) are as long as the real records are many, and their random part
        has only these (VPLR's max_cu_epoch, 150); None = no cut.
    cut_places: places in the later epochs: "all" as before (what the released code does), "real" of real records only
        (what it means to do).

    Raises UserError for an unknown kind, and as the plan does.
    """
    plan = functools.partial(choose(PLANS, kind, where="sampler.kind"), source, seed=seed, **options)
    counted = [np.arange(e.first, e.first + len(e.source)) for e in extras if e.in_epoch]
    rest = plan
    if kind != "uniform":
        places = [extra.places(kind, options, cache) for extra in extras]
        real = functools.partial(plan, cache=cache)
        plan = functools.partial(real, extra=places)
        rest = plan if cut_places == "all" else real
    whole = functools.partial(plan, records=np.concatenate([np.arange(len(source)), *counted]))
    if cut_epoch is None:
        return whole()
    return CutPlan(whole(), rest(), cut_epoch)
