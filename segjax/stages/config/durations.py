"""Durations in recipes: `<name>_steps`, `_epochs`, `_examples` or `_percent`, one unit at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from segjax.errors import UserError

UNITS = ("steps", "epochs", "examples", "percent")


@dataclasses.dataclass(frozen=True)
class Duration:
    """A length of training. value: a number of `unit`, 0 or more. unit: one of UNITS. key: where the recipe has it."""

    value: float
    unit: str
    key: str

    def steps(
        self,
        *,
        steps_per_epoch: float | None = None,
        examples_per_step: float | None = None,
        total_steps: int | None = None,
    ) -> int:
        """Returns the duration in steps; 0 stays 0, anything more is at least 1 step.

        steps_per_epoch, examples_per_step: the run's mean, when a crop schedule changes them from epoch to epoch.
        total_steps: what `percent` is of. Raises UserError for a unit that these do not determine.
        """
        scale = {
            "steps": 1.0,
            "epochs": steps_per_epoch,
            "examples": None if not examples_per_step else 1.0 / examples_per_step,
            "percent": None if total_steps is None else total_steps / 100.0,
        }[self.unit]
        if scale is None:
            stem = self.key.removesuffix(f"_{self.unit}").rpartition(".")[2]
            raise UserError(f"config key {self.key} cannot be given in {self.unit} here; use {stem}_steps.")
        return max(1, round(self.value * scale)) if self.value else 0

    def epochs(self, *, steps_per_epoch: float, examples_per_step: float) -> int:
        """Returns the whole epochs it takes, rounded up: a run's length is known in epochs before it is in steps."""
        if self.unit == "epochs":
            return max(1, math.ceil(self.value))
        steps = self.steps(steps_per_epoch=steps_per_epoch, examples_per_step=examples_per_step)
        return max(1, math.ceil(steps / steps_per_epoch))


def duration_keys(*names: str) -> set[str]:
    """Returns the keys of durations: names x UNITS."""
    return {f"{name}_{unit}" for name in names for unit in UNITS}


def read_duration(settings: Mapping[str, Any], name: str, *, where: str = "") -> Duration | None:
    """Reads `<name>_<unit>` of a section, None if there is none.

    Raises UserError for two at once, and for what is not a number of 0 or more.
    """
    prefix = f"{where}." if where else ""
    found = [unit for unit in UNITS if settings.get(f"{name}_{unit}") is not None]
    if len(found) > 1:
        keys = " and ".join(f"{prefix}{name}_{unit}" for unit in found)
        raise UserError(f"config has {keys}; keep one of them.")
    if not found:
        return None
    unit, key = found[0], f"{prefix}{name}_{found[0]}"
    value = settings[f"{name}_{unit}"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise UserError(f"config key {key}={value!r} must be a number of 0 or more.")
    if unit == "steps" and value != int(value):
        raise UserError(f"config key {key}={value!r} must be a whole number of steps.")
    return Duration(value, unit, key)
