"""The section `sampler` of a training stage: which records and places an epoch shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from segjax import data
from segjax.errors import choose
from segjax.files import plain
from segjax.stages.config.keys import check_numbers, options_of


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """The section `sampler`. kind: a key of `data.PLANS`. options: of that plan. The others: see `make_plan`."""

    kind: str
    options: Mapping[str, Any]
    cut_epoch: int | None
    cut_places: str


def read_sampler(settings: Mapping[str, Any], where: str) -> SamplerOptions:
    """Reads the section `sampler` of a stage. Raises UserError for unknown keys and names, and wrong numbers."""
    here, settings = f"{where}.sampler", plain(settings)
    check_numbers(settings, ("tile", "cut_epoch"), where=here, low=0)
    check_numbers(settings, ("min_area",), where=here, low=1)
    check_numbers(settings, ("share",), where=here, low=0, whole=False)
    kind = settings.pop("kind", "uniform")
    cut_epoch, cut_places = settings.pop("cut_epoch", None), settings.pop("cut_places", "all")
    choose({"all": 0, "real": 0}, cut_places, where=f"{here}.cut_places")
    options = options_of(settings, choose(data.PLANS, kind, where=f"{here}.kind"), where=here)
    return SamplerOptions(kind, options, cut_epoch, cut_places)
