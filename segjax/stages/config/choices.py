"""Sections whose options depend on a name: samplers, losses, networks, optimizers; checked before any stage runs.

Command-line overrides win. Recipe options that the newly chosen name does not accept are dropped, as is a duration
given in another unit. Options that were set on the command line must fit.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from segjax import data, losses, models
from segjax.data.flow import FLOWS
from segjax.data.part_plan import PART_PLANS
from segjax.errors import UserError, choose
from segjax.stages.config import durations
from segjax.stages.config.keys import check_keys, recipe_options
from segjax.training import optimizer, schedules
from segjax.training.terms import TermOptions

log = logging.getLogger("segjax")


class Choice(NamedTuple):
    """A section whose options depend on a name.

    key: of the name.
    inside: key of the options, "" if they stand beside the name.
    default: the name if the section has none.
    takes: name -> options.
    common: keys beside the name that every name has.
    """

    key: str
    inside: str
    default: str
    takes: Mapping[str, Collection[str]]
    common: Collection[str] = ()


_CUT = {"cut_epoch", "cut_places"}
_PLANS = {name: recipe_options(plan) | (_CUT if name != "mixed" else set()) for name, plan in data.PLANS.items()}
_PARTS = {name: recipe_options(plan) for name, plan in PART_PLANS.items()}
_LOSSES = {name: recipe_options(loss) for name, loss in losses.LOSSES.items()}
_FROM_STAGE = {"dtype", "remat"}  # options of networks that a stage's section has beside `model`
_MODELS = {
    name: set(models.options(name, kind=kind)) - _FROM_STAGE
    for kind in ("image", "video", "propagation")
    for name in models.FAMILIES[kind].networks
}
_FLOWS = {
    **{name: recipe_options(flow) for name, flow in FLOWS.items()},
    **{name: ("weights", "key", "dtype", "bgr") for name in models.FLOW_MODELS},
}
_WARMUP = ("warmup_start", *(f"warmup_{unit}" for unit in durations.UNITS))

# path within a stage's section, where * is any key
CHOICES = {
    "sampler": Choice("kind", "", "uniform", _PLANS),
    "sampler.parts.*": Choice("kind", "", "uniform", _PARTS, ("ratio",)),
    "loss.*": Choice("name", "options", "", _LOSSES, recipe_options(TermOptions) - {"name", "options"}),
    "model": Choice("name", "options", "", _MODELS),
    "features.model": Choice("name", "options", "", _MODELS),
    "optimizer": Choice("name", "options", "", optimizer.OPTIONS, ("lr", "schedule", "lr_rules", "decay_rules")),
    "optimizer.schedule": Choice("kind", "", "constant", schedules.OPTIONS, ("per", *_WARMUP)),
    "flow": Choice("name", "options", "", _FLOWS, ("on", "cache_bytes", "measure", "mean", "std")),
}


def find_choices(stage: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Choice]]:
    """Yields (path within the stage, section, choice) of all sections of a stage whose options depend on a name."""
    for path, section in _sections(stage):
        for pattern, choice in CHOICES.items():
            if fnmatch.fnmatch(path, pattern) and path.count(".") == pattern.count("."):
                yield path, section, choice


def _sections(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key in tree:
        if isinstance(tree[key], Mapping) or hasattr(tree[key], "to_dict"):
            here = f"{path}.{key}" if path else key
            yield here, tree[key]
            yield from _sections(tree[key], here)


def check_choices(stage: Mapping[str, Any], *, where: str) -> None:
    """Raises UserError for an unknown name, and for an option that the name does not accept."""
    for path, section, choice in find_choices(stage):
        here = f"{where}.{path}"
        name = section.get(choice.key, choice.default)
        takes = choose(choice.takes, name, where=f"{here}.{choice.key}")
        known = {choice.key, *choice.common, *([choice.inside] if choice.inside else takes)}
        for key in section:
            if key not in known:
                _refuse(key, name, choice, known, where=here)
        for key in section.get(choice.inside, {}) if choice.inside else ():
            if key not in takes:
                _refuse(key, name, choice, takes, where=f"{here}.{choice.inside}")


def _refuse(key: str, name: str, choice: Choice, known: Collection[str], *, where: str) -> None:
    others = [other for other, takes in choice.takes.items() if key in takes]
    if others:
        raise UserError(
            f"config key {where}.{key} means nothing to {name!r}, it is an option of {', '.join(others[:3])}; "
            "leave it out."
        )
    check_keys({key: None}, known, where=where)


def apply_overrides(config: Any, overrides: Collection[str]) -> None:
    """Drops from the config what the overrides, keys like "train.sampler.kind", replace; logs what is dropped.

    Command-line overrides win. Recipe options that the newly chosen name does not accept are dropped, as is a duration
    given in another unit.
    """
    set_by_user = set(overrides)

    def own(key: str) -> bool:
        parts = key.split(".")
        return any(".".join(parts[:n]) in set_by_user for n in range(1, len(parts) + 1))

    def drop(section: Any, key: str, where: str, instead: str) -> None:
        if not own(f"{where}.{key}"):
            log.info("%s.%s=%s of the recipe gives way to --config.%s", where, key, section[key], instead)
            del section[key]

    for stage in config.stages:
        for path, section, choice in find_choices(config.get(stage, {})):
            here = f"{stage}.{path}"
            name = section.get(choice.key, choice.default)
            if f"{here}.{choice.key}" not in set_by_user or name not in choice.takes:
                continue
            keep = {choice.key, *choice.common, *choice.takes[name]}
            inside = section.get(choice.inside, {}) if choice.inside else section
            for key in [key for key in inside if key not in keep]:
                below = f"{here}.{choice.inside}" if choice.inside else here
                drop(inside, key, below, f"{here}.{choice.key}={name}")
    for path in ("dataset", *(f"{stage}.dataset" for stage in config.stages)):
        section = _find(config, path)
        if f"{path}.name" not in set_by_user or section is None or section.name not in data.dataset_names():
            continue
        takes = {"config", *data.dataset_options(section.name)}
        for key in [key for key in section.get("options", {}) if key not in takes]:
            drop(section.options, key, f"{path}.options", f"{path}.name={section.name}")
    for override in overrides:
        holder, _, key = override.rpartition(".")
        stem, _, unit = key.rpartition("_")
        section = _find(config, holder)
        if unit in durations.UNITS and section is not None:
            for other in durations.UNITS:
                if other != unit and f"{stem}_{other}" in section:
                    drop(section, f"{stem}_{other}", holder, override)


def _find(config: Any, path: str) -> Any:
    for key in filter(None, path.split(".")):
        if not hasattr(config, "keys") or key not in config:
            return None
        config = config[key]
    return config if hasattr(config, "keys") else None
