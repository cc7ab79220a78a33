"""Epoch plans by name, of real records and of others beside them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.centroids import Centroids, concatenate
from segjax.data.epoch_plans import ClassPlan, CutPlan, EpochPlan, UniformPlan
from segjax.data.extra import Extra, find_places
from segjax.data.mixed_plan import REAL, mixed
from segjax.data.sources import Source
from segjax.errors import choose

log = logging.getLogger("segjax")


def uniform(source: Source, seed: int = 0, records: np.ndarray | None = None, *, times: int = 1) -> UniformPlan:
    """Returns the plan of every record once per epoch.

    records: their numbers, by default all of the source; one that occurs twice is shown twice.
    times: how often each record of the source is shown in an epoch.
    """
    if times == 1:
        return UniformPlan(len(source) if records is None else records, seed=seed)
    numbers = np.arange(len(source)) if records is None else records
    return UniformPlan(np.repeat(numbers, np.where(numbers < len(source), times, 1)), seed=seed)


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
    return _class_plan(source, seed, records, [found, *extra], share)


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
    return _class_plan(source, seed, records, [found, *extra], share)


def _class_plan(
    source: Source, seed: int, records: np.ndarray | None, places: Sequence[Centroids], share: float
) -> ClassPlan:
    """Builds the plan; logs if the published quota of each class is 0."""
    records = len(source) if records is None else records
    plan = ClassPlan(records, concatenate(places), source.num_classes, share=share, seed=seed)
    if plan.takes_turns:
        log.info(
            "%d records are too few for a place of each of %d classes in every epoch (the published quota is 0); the "
            "classes take turns, with %.4g places per epoch",
            plan.length, plan.num_classes, plan.length * share,
        )  # fmt: skip
    return plan


PLANS: dict[str, Callable[..., EpochPlan]] = {
    "uniform": uniform,
    "class_uniform": class_uniform,
    "centroid": centroid,
    "mixed": mixed,
}


def parts_of(source: Source, extras: Sequence[Extra]) -> dict[str, tuple[int, int]]:
    """Returns name -> (first, end) record of the real and the extra data, for `epoch_shares`."""
    return {REAL: (0, len(source)), **{e.name: (e.first, e.first + len(e.source)) for e in extras}}


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
    where: str = "sampler",
) -> EpochPlan:
    """Builds the epoch plan of a training on real and extra records.

    kind, options: a key of PLANS, and what it accepts. "mixed" has a plan for each part, the others one for all; it
        ignores `in_epoch` of the extras, and takes no cut. source: the real records. cache: folder for places, or None.
    extras: other records; their `times` is for the kind "uniform".
    cut_epoch: epochs after this one (counted from 0) are as long as the real records are many, and their random part
        has only these (VPLR's max_cu_epoch, 150); None = no cut.
    cut_places: places in the later epochs: "all" as before (what the released code does), "real" of real records only
        (what it means to do).
    where: config key of the sampler, for errors.

    Raises UserError for an unknown kind, and as the plan does.
    """
    make = choose(PLANS, kind, where=f"{where}.kind")
    if kind == "mixed":
        return make(source, extras, seed, cache, where, **options)
    plan = functools.partial(make, source, seed=seed, **options)
    counted = [np.repeat(np.arange(e.first, e.first + len(e.source)), e.times) for e in extras if e.in_epoch]
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
