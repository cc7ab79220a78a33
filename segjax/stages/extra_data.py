"""What a training shows beside the labelled images of its split: propagated frames, or coarsely labelled images.

    train.extra = dict(stage="propagate", mode="jp", steps=(1,))
    train.extra = dict(
        propagated=dict(stage="propagate", mode="jp", steps=(1, 2, 3)),
        coarse=dict(split="train_extra", classes=("truck", "bus", "train"), in_epoch=False),
    )

stage: of this run, or a folder; mode and steps as in `open_propagated`. split, dataset: labelled images, of
config.dataset by default. in_epoch: whether these records count for the length N of an epoch and its random part
(Cityscapes as published), or give places of classes only (CamVid and coarse labels as published). classes: of the
places taken, all by default (published: all of propagated frames, 7 rare ones of coarse labels).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax import data
from segjax.data.derived import open_propagated
from segjax.data.joined import Joined
from segjax.data.plans import CutPlan, find_places
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.stages import build
from segjax.stages.config.keys import check_keys, options_of

_KINDS = ({"stage", "mode", "steps"}, {"split", "dataset"})
_COMMON = {"in_epoch", "classes"}


@dataclasses.dataclass(frozen=True)
class Extra:
    """Records beside the real ones; first: number of the first in the joined source. classes: train ids, () = all."""

    name: str
    source: data.Source
    first: int
    in_epoch: bool
    classes: tuple[int, ...]


def open_extras(
    settings: Mapping[str, Any], real: data.Source, context: Any, *, where: str
) -> tuple[data.Source, list[Extra]]:
    """(all records, the real ones first; the extras) of `train.extra`; without any, the real source and none."""
    if not settings:
        return real, []
    extras, first = [], len(real)
    for name, here, one in check_extras(settings, where=where):
        if "stage" in one:
            inside = context.workdir / one["stage"] / "dataset"
            source = open_propagated(
                inside if inside.is_dir() else one["stage"], mode=one["mode"], steps=tuple(one["steps"])
            )
        else:
            source = build.open_split(one.get("dataset") or context.dataset, one["split"])
        classes = tuple(_class_id(c, real.class_names, where=here) for c in one.get("classes", ()))
        extras.append(Extra(name, source, first, one.get("in_epoch", "stage" in one), classes))
        first += len(source)
    return Joined([real, *(extra.source for extra in extras)]), extras


def check_extras(settings: Mapping[str, Any], *, where: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, config key, settings) of each; UserError for keys that are not known or missing. Reads no data."""
    settings = plain(settings)
    if not settings:
        return []
    single = any(not isinstance(value, Mapping) for value in settings.values())
    found = []
    for name, one in ({settings.get("stage", "extra"): settings} if single else settings).items():
        here, known, required = (where if single else f"{where}.{name}"), _KINDS[1], ["split"]
        if "stage" in one:
            known, required = _KINDS[0], ["mode", "steps"]
        check_keys(one, known | _COMMON, where=here, required=required)
        found.append((name, here, one))
    return found


def make_plan(
    settings: Mapping[str, Any], source: data.Source, extras: Sequence[Extra], *, seed: int, cache: Any, where: str
) -> data.EpochPlan:
    """The epoch plan of `sampler`: {kind, the options of that plan, cut_epoch, cut_places}.

    source: the real records. cut_epoch: epochs after this one (counted from 0) are as long as the real records are many
    and their random part shows only these (VPLR's max_cu_epoch, 150). cut_places: "all": their places are those of
    before (what the released code does), "real": places of real records only (what it means to do).
    """
    settings = plain(settings)
    kind = settings.pop("kind", "uniform")
    cut_epoch, cut_places = settings.pop("cut_epoch", None), settings.pop("cut_places", "all")
    choose({"all": 0, "real": 0}, cut_places, where=f"{where}.sampler.cut_places")
    function = choose(data.PLANS, kind, where=f"{where}.sampler.kind")
    given = ("source", "seed", "extra", "cache", "records")
    options = options_of(settings, function, where=f"{where}.sampler", given=given)
    plan = functools.partial(function, source, seed=seed, **options)
    counted = [np.arange(e.first, e.first + len(e.source)) for e in extras if e.in_epoch]
    if kind == "uniform":
        numbers = np.concatenate([np.arange(len(source)), *counted])
        whole, rest = functools.partial(plan, records=numbers), plan
    else:
        plan = functools.partial(plan, cache=cache)
        places = [_places(extra, kind, options, cache) for extra in extras]
        numbers = np.concatenate([np.arange(len(source)), *counted])
        whole = functools.partial(plan, records=numbers, extra=places)
        rest = functools.partial(plan, extra=places) if cut_places == "all" else plan
    if cut_epoch is None:
        return whole()
    if not extras:
        raise UserError(
            f"config key {where}.sampler.cut_epoch says when {where}.extra ends, but there is no extra data."
        )
    return CutPlan(whole(), rest(), cut_epoch)


def parts_of(source: data.Source, extras: Sequence[Extra]) -> dict[str, tuple[int, int]]:
    """name -> (first, end) record of the real and the extra data, for `data.shares`."""
    return {"real": (0, len(source)), **{e.name: (e.first, e.first + len(e.source)) for e in extras}}


def _places(extra: Extra, kind: str, options: Mapping[str, Any], cache: Any):
    found = find_places(kind, extra.source, cache=cache, **options)
    if extra.classes:
        found = found.of_classes(extra.classes)
    return found.moved(extra.first)


def _class_id(name: str | int, names: Sequence[str], *, where: str) -> int:
    if isinstance(name, int) and 0 <= name < len(names):
        return name
    if name not in names:
        raise UserError(f"config key {where}.classes names {name!r}, which is no class.{did_you_mean(name, names)}")
    return list(names).index(name)
