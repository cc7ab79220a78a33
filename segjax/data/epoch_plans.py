"""Epoch plans: the records that an epoch shows, and the place of each; pure functions of (seed, epoch).

A plan contains numbers only: of the records of one source, or of several joined sources, and of places in them. Every
host builds the same epoch. `plans` makes them by name, `mixed_plan` out of parts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple, Protocol

import numpy as np

from segjax.data.centroids import Centroids, Pools
from segjax.data.random import PLAN, generator
from segjax.errors import UserError


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

    With few records, N * share < K, the published quota q is 0 and no sample would be around a place. Then the classes
    with places take turns: epoch e has the turns int(e * N * share) .. int((e + 1) * N * share) - 1 of an endless round
    of these classes. So a share of all samples is around places, and the counts of two classes differ by 1 at most.

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
        """Number q of places of each class per epoch, as published."""
        return int(self.length * self.share / self.num_classes)

    @property
    def takes_turns(self) -> bool:
        """Whether the classes take turns, because the published quota is 0."""
        return self.quota == 0 and self.share > 0 and len(self.centroids) > 0

    @functools.cached_property
    def _pools(self) -> Pools:
        return Pools(self.centroids.classes, self.num_classes)

    def _quotas(self, epoch: int) -> np.ndarray:
        """Returns the number of places of each class in an epoch, int (K,)."""
        if not self.takes_turns:
            return np.full(self.num_classes, self.quota)
        present = np.flatnonzero(self._pools.counts)
        first, end = (int(number * self.length * self.share) for number in (epoch, epoch + 1))
        return np.bincount(present[np.arange(first, end) % len(present)], minlength=self.num_classes)

    def build(self, epoch: int) -> Epoch:
        """Draws from every class and from the records, and shuffles them together."""
        rng = generator(self.seed, PLAN, epoch)
        rows = [_draw(rng, self._pools.of(c), count) for c, count in enumerate(self._quotas(epoch))]
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
