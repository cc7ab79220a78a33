"""Durations in settings: `<name>_steps`, `_epochs`, `_examples` or `_percent`, resolved to steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segjax.errors import UserError

UNITS = ("steps", "epochs", "examples", "percent")


def find_duration(settings: Mapping[str, Any], name: str, *, where: str = "") -> tuple[float, str] | None:
    """(value, unit) of `<name>_<unit>` in the settings, or None.

    Raises UserError for two at once, and for what is not a number of 0 or more.
    """
    prefix = f"{where}." if where else ""
    found = [(settings[f"{name}_{unit}"], unit) for unit in UNITS if settings.get(f"{name}_{unit}") is not None]
    if len(found) > 1:
        keys = " and ".join(f"{prefix}{name}_{unit}" for _, unit in found)
        raise UserError(f"config has {keys}; keep one of them.")
    if not found:
        return None
    value, unit = found[0]
    key = f"{prefix}{name}_{unit}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise UserError(f"config key {key}={value!r} must be a number of 0 or more.")
    if unit == "steps" and value != int(value):
        raise UserError(f"config key {key}={value!r} must be a whole number of steps.")
    return value, unit


def resolve_steps(
    settings: Mapping[str, Any],
    name: str,
    *,
    steps_per_epoch: float | None = None,
    examples_per_step: float | None = None,
    total_steps: int | None = None,
    default: int | None = None,
    where: str = "",
) -> int | None:
    """`<name>_steps|epochs|examples|percent` of the settings in steps; 0 stays 0, anything more is at least 1 step.

    steps_per_epoch, examples_per_step: the run's mean, where a crop schedule changes them from epoch to epoch.
    total_steps: what `_percent` is of.
    default: returned where no such key is there; without one that is an error.
    """
    found = find_duration(settings, name, where=where)
    prefix = f"{where}." if where else ""
    if found is None:
        if default is None:
            keys = ", ".join(f"{name}_{unit}" for unit in UNITS)
            raise UserError(f"config {where or 'section'} needs one of {keys}.")
        return default
    value, unit = found
    scale = {
        "steps": 1.0,
        "epochs": steps_per_epoch,
        "examples": None if not examples_per_step else 1.0 / examples_per_step,
        "percent": None if total_steps is None else total_steps / 100.0,
    }[unit]
    if scale is None:
        raise UserError(f"config key {prefix}{name}_{unit} cannot be given in {unit} here; use {name}_steps.")
    return max(1, round(value * scale)) if value else 0


def resolve_epochs(
    settings: Mapping[str, Any],
    name: str,
    *,
    steps_per_epoch: float,
    examples_per_step: float,
    where: str = "",
) -> int:
    """The whole epochs that `<name>_*` needs, rounded up; a run's length is known in epochs before its steps are."""
    found = find_duration(settings, name, where=where)
    if found is not None and found[1] == "epochs":
        return max(1, math.ceil(found[0]))
    steps = resolve_steps(
        settings, name, steps_per_epoch=steps_per_epoch, examples_per_step=examples_per_step, where=where
    )
    return max(1, math.ceil(steps / steps_per_epoch))
