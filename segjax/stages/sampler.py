"""The section `sampler` of a training stage: which records and places an epoch shows.

train.sampler = dict(kind="class_uniform", tile=1024, cut_epoch=150)
train.sampler = dict(
    kind="mixed",
    parts=dict(
        real=dict(kind="centroid", ratio=1.0),
        pseudo=dict(kind="centroid", ratio=3.0, min_area=16),
    ),
)
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from segjax import data
from segjax.data.mixed_plan import PartOptions, check_parts
from segjax.data.part_plan import ABSENT, PART_PLANS
from segjax.errors import UserError, choose
from segjax.files import plain
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.extra_data import ExtraOptions

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """The section `sampler`. kind: a key of `data.PLANS`. options: of that plan. The others: see `make_plan`."""

    kind: str
    options: Mapping[str, Any]
    cut_epoch: int | None
    cut_places: str
    where: str = "sampler"


def read_sampler(settings: Mapping[str, Any], where: str) -> SamplerOptions:
    """Reads the section `sampler` of a stage. Raises UserError for unknown keys and names, and wrong numbers."""
    here, settings = f"{where}.sampler", plain(settings)
    kind = settings.pop("kind", "uniform")
    plan = choose(data.PLANS, kind, where=f"{here}.kind")
    if kind == "mixed":
        check_keys(settings, ("parts",), where=here, required=("parts",))
        parts = _sections(settings["parts"], f"{here}.parts")
        options = {"parts": {name: _read_part(part, f"{here}.parts.{name}") for name, part in parts.items()}}
        return SamplerOptions(kind, options, None, "all", here)
    _check_places(settings, here)
    check_numbers(settings, ("times",), where=here, low=1)
    check_numbers(settings, ("cut_epoch",), where=here, low=0)
    cut_epoch, cut_places = settings.pop("cut_epoch", None), settings.pop("cut_places", "all")
    choose({"all": 0, "real": 0}, cut_places, where=f"{here}.cut_places")
    return SamplerOptions(kind, options_of(settings, plan, where=here), cut_epoch, cut_places, here)


def _sections(parts: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, dict) for part in parts.values()):
        raise UserError(f"config key {where} must name the parts, as dict(real=dict(kind='centroid', ratio=1.0)) does.")
    return parts


def _read_part(settings: dict[str, Any], where: str) -> PartOptions:
    kind = settings.pop("kind", "uniform")
    plan = choose(PART_PLANS, kind, where=f"{where}.kind")
    if settings.get("ratio") is None:
        raise UserError(
            f"config key {where}.ratio is missing: samples per epoch as a multiple of the number of real records."
        )
    check_numbers(settings, ("ratio",), where=where, low=0, whole=False)
    _check_places(settings, where)
    if "absent" in settings:
        choose(dict.fromkeys(ABSENT), settings["absent"], where=f"{where}.absent")
    ratio = settings.pop("ratio")
    return PartOptions(kind, ratio, options_of(settings, plan, where=where))


def _check_places(settings: Mapping[str, Any], where: str) -> None:
    check_numbers(settings, ("tile",), where=where, low=0)
    check_numbers(settings, ("min_area",), where=where, low=1)
    check_numbers(settings, ("share",), where=where, low=0, whole=False)


def check_sampler(sampler: SamplerOptions, extras: Sequence[ExtraOptions]) -> None:
    """Raises UserError if the sampler does not fit the extra data of the training; warns of data that it never shows.

    sampler: see `read_sampler`.
    extras: see `read_extras`.
    """
    if sampler.cut_epoch is not None and not extras:
        stage = sampler.where.rpartition(".")[0]
        raise UserError(
            f"config key {sampler.where}.cut_epoch says when {stage}.extra ends, but there is no extra data."
        )
    for one in extras:
        if sampler.kind == "uniform" and not one.counted:
            log.warning(
                "%s: no epoch of a uniform sampler shows its records, which do not count for one; give times=1",
                one.where,
            )
        if one.times is not None and sampler.kind != "uniform":
            instead = "leave it out" if sampler.kind != "mixed" else f"set {sampler.where}.parts.{one.name}.ratio"
            raise UserError(
                f"config key {one.where}.times={one.times} belongs to the sampler's kind 'uniform', and the kind here "
                f"is {sampler.kind!r}; {instead}."
            )
    if sampler.kind != "mixed":
        return
    check_parts(sampler.options["parts"], [one.name for one in extras], where=f"{sampler.where}.parts")
    for one in extras:
        if one.in_epoch is not None:
            raise UserError(
                f"config key {one.where}.in_epoch={one.in_epoch} means nothing to a mixed sampler, whose parts have "
                f"lengths of their own; leave it out and set {sampler.where}.parts.{one.name}.ratio."
            )
