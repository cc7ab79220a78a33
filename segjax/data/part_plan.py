"""The samples of one part of a mixed epoch: random records, or places of equally many of every class."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from segjax.data.centroids import Centroids, Pools
from segjax.data.epoch_plans import Epoch
from segjax.data.extra import Extra, find_places
from segjax.data.random import PLAN, generator
from segjax.errors import UserError

# where the quota of a class without places goes: to the other classes, or to records anywhere
ABSENT = ("shared", "random")


@dataclasses.dataclass(frozen=True)
class PartPlan:
    """The samples of one part of an epoch: a share of them around places, and the rest anywhere in random records.

    The places of an epoch are divided equally among the classes. If they cannot be, random classes get one more.
    Within an epoch, neither a place nor a record is drawn again before all others of its class, or of the part, are.

    name: of the part. Its draws depend on the name and the seed, and on no other part.
    first: number of its first record among those of all parts.
    records: number of its records.
    length: samples per epoch n.
    share: of these, around places; 0..1.
    places: in its records, which are numbered from 0.
    classes: train ids whose places are drawn, int (k,).
    absent: where the quota of classes without places goes, see ABSENT.

    Raises UserError for a share outside 0..1.
    """

    name: str
    first: int
    records: int
    length: int
    share: float = 0.0
    places: Centroids | None = None
    classes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    absent: str = "shared"
    seed: int = 0

    def __post_init__(self):
        if not 0.0 <= self.share <= 1.0:
            raise UserError(
                f"sampler.parts.{self.name}.share={self.share} must be from 0 to 1, the part of it around places."
            )

    @property
    def around(self) -> int:
        """Number of samples around places per epoch."""
        return round(self.length * self.share)

    @functools.cached_property
    def pools(self) -> Pools:
        """Places by class."""
        return Pools(self.places.classes, int(self.classes.max(initial=-1)) + 1)

    @functools.cached_property
    def present(self) -> np.ndarray:
        """Train ids of `classes` that have places."""
        return self.classes[self.pools.counts[self.classes] > 0]

    def build(self, epoch: int) -> Epoch:
        """Returns the samples of an epoch, not shuffled."""
        rng = generator(self.seed, PLAN, epoch, _key(self.name))
        chosen = self._around(rng) if self.around else np.zeros(0, np.int64)
        anywhere = _draw(rng, self.records, self.length - len(chosen))
        records, places, classes = anywhere, np.full((len(anywhere), 2), -1), np.full(len(anywhere), -1)
        if len(chosen):
            records = np.concatenate([self.places.records[chosen], records])
            places = np.concatenate([self.places.places[chosen], places])
            classes = np.concatenate([self.places.classes[chosen], classes])
        return Epoch((records + self.first).astype(np.int32), places.astype(np.int32), classes.astype(np.int32))

    def _around(self, rng: np.random.Generator) -> np.ndarray:
        """Draws rows of places."""
        classes = self.present if self.absent == "shared" else self.classes
        each, rest = divmod(self.around, len(classes))
        quota = np.full(len(classes), each)
        quota[rng.choice(len(classes), rest, replace=False)] += 1
        pools = [(self.pools.of(c), count) for c, count in zip(classes, quota)]
        return np.concatenate([pool[_draw(rng, len(pool), count)] for pool, count in pools if len(pool)])


def _key(name: str) -> int:
    # 0 is the index of whole plans
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") or 1


def _draw(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Returns `count` numbers below `size`: all of them as often as possible, and the rest drawn without repetition."""
    rounds, rest = divmod(count, size)
    return np.concatenate([np.tile(np.arange(size), rounds), rng.choice(size, rest, replace=False, shuffle=False)])


def uniform_part(part: Extra, length: int, seed: int, cache: Any) -> PartPlan:
    """Returns the plan of random records: each once before one is repeated.

    part: its records.
    length: samples per epoch.
    seed: of the draws.
    cache: folder for places, not used.
    """
    return PartPlan(part.name, part.first, len(part.source), length, seed=seed)


def class_uniform_part(
    part: Extra,
    length: int,
    seed: int,
    cache: Any,
    *,
    share: float = 0.5,
    tile: int = 1024,
    min_area: int = 1,
    absent: str = "shared",
) -> PartPlan:
    """Returns the plan of VPLR's class uniform sampling (section 4.1): half of the samples around classes in tiles.

    part, length, seed: see `uniform_part`.
    cache: folder, see `find_centroids`.
    share, absent: see `PartPlan`.
    tile: side in pixels, 0 for whole images.
    min_area: pixels that a class must have in a tile.

    Raises UserError for a share outside 0..1, and for a record without label.
    """
    found = find_places("class_uniform", part.source, cache=cache, tile=tile, min_area=min_area)
    return _placed(part, length, seed, found, share, absent)


def centroid_part(
    part: Extra, length: int, seed: int, cache: Any, *, share: float = 1.0, min_area: int = 16, absent: str = "shared"
) -> PartPlan:
    """Returns the plan of CSST's centroid sampling (section 3.2): samples around components, equally many per class.

    Arguments and errors as in `class_uniform_part`; min_area: pixels that a connected component must have. Components
    of fewer than 16 pixels are 45 % of those of CamVid's training split: specks at the outlines of other classes, on
    which a third of all samples would be centred (docs/training.md).
    """
    found = find_places("centroid", part.source, cache=cache, min_area=min_area)
    return _placed(part, length, seed, found, share, absent)


def _placed(part: Extra, length: int, seed: int, places: Centroids, share: float, absent: str) -> PartPlan:
    classes = np.array(sorted(part.classes) or range(part.source.num_classes), np.int64)
    return PartPlan(part.name, part.first, len(part.source), length, share, places, classes, absent, seed)


PART_PLANS: dict[str, Callable[..., PartPlan]] = {
    "uniform": uniform_part,
    "class_uniform": class_uniform_part,
    "centroid": centroid_part,
}
