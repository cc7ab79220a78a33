"""Finished trainings that go on under a longer duration: when that is sound, and what it changes.

A training goes on if it would have had the same samples and batches up to its last step, had it been longer from the
start. Only its learning rate differs: the schedule is stretched over the longer duration.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from segjax import parallel
from segjax.errors import UserError
from segjax.files import differences
from segjax.stages.config.durations import duration_keys
from segjax.stages.stage import Context
from segjax.training.run import RunPlan
from segjax.typing import Array
from segjax.weights.runs import has_checkpoint

log = logging.getLogger("segjax")

# settings that change no number of a training before its old end
_LENGTH = duration_keys("total")
_FREE = _LENGTH | duration_keys("checkpoint", "eval") | {"log_steps", "keep", "loader"}


def why_no_extension(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> str:
    """Returns why a finished training cannot go on with new settings, as a clause; "" if it can.

    A duration in another unit is compared when the data is open, see `begin_extension`.

    old, new: {"seed", "dataset", "stage"} as plain data, which differ.
    folder: of the stage.
    """
    before, now = old["stage"], new["stage"]
    changed = [key for key in _LENGTH if before.get(key) != now.get(key)]
    if not changed or differences(_fixed(old), _fixed(new)):
        return "only a longer duration lets a finished training go on"
    if any(now.get(key) is not None and now[key] < (before.get(key) or 0) for key in changed):
        return "a finished training cannot become shorter"
    if (schedule := now.get("crop", {}).get("schedule", "constant")) != "constant":
        return f"the crops of crop.schedule={schedule!r} are spread over the whole training, so that its start differs"
    if not has_checkpoint(folder / "checkpoints"):
        return "its checkpoints are gone"
    return ""


def _fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, "stage": {key: value for key, value in settings["stage"].items() if key not in _FREE}}


def start_from(name: str, folder: Path, settings: Mapping[str, Any]) -> str:
    """Returns the flags that start another training from the weights of a finished one; "" if they are gone.

    name, folder: of the stage.
    settings: its section.
    """
    if not has_checkpoint(folder / "checkpoints"):
        return ""
    if "init" not in settings:
        return "--config." + shlex.quote(f"{name}.init={{'checkpoint': {str(folder)!r}}}")
    cleared = [f"--config.{name}.init.{key}=" for key in ("weights", "key") if settings["init"].get(key)]
    return " ".join([*cleared, shlex.quote(f"--config.{name}.init.checkpoint={folder}")])


def last_rate(schedule: Callable[[int], Array], plan: RunPlan) -> float:
    """Returns the learning rate of the last step of a plan, for the report."""
    return float(schedule(max(plan.total_steps - 1, 0)))


def begin_extension(context: Context, plan: RunPlan, schedule: Callable[[int], Array]) -> None:
    """Begins to extend a finished training: logs what changes, and sets its report aside. Nothing for any other one.

    Without a report the stage counts as unfinished, so that it resumes after an interruption. The report is kept as
    report-<steps>-steps.json. Every process must call it, before the first step.

    context: of the stage; `finished` is the report.
    plan: of the longer training.
    schedule: step -> learning rate, of the longer training.

    Raises UserError if the new duration is shorter than the finished training.
    """
    if context.finished is None:
        return
    steps, folder = context.finished["steps"], context.folder
    if plan.total_steps < steps:
        raise UserError(
            f"{folder} was finished after {steps} steps and these settings end after {plan.total_steps}: a finished "
            f"training cannot become shorter; give a longer duration, another --workdir, or delete {folder}."
        )
    last = context.finished.get("last_learning_rate")
    log.info(
        "extending the training from step %d to %d: the learning rate goes on at %.3g, its value at this step of the "
        "longer schedule (it was %s at the last step)",
        steps, plan.total_steps, float(schedule(steps)), "unknown" if last is None else f"{last:.3g}",
    )  # fmt: skip
    parallel.sync(f"extension of {context.name}")  # every process has read the report
    if jax.process_index() == 0:
        os.replace(folder / "report.json", folder / f"report-{steps}-steps.json")
