"""The plan of a training run: epochs with their crops and batches, and the steps at which to save and evaluate."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from segjax import data, parallel
from segjax.data.crop_schedule import KINDS, crop_schedule, fit_batches
from segjax.errors import UserError, choose
from segjax.files import plain
from segjax.stages.config.durations import Duration, read_duration
from segjax.stages.config.keys import check_keys, check_numbers, options_of, recipe_options
from segjax.training.loop import Events
from segjax.training.run import RunPlan

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class CropOptions:
    """The section `crop`.

    size: (height, width) in pixels.
    schedule: key of `crop_schedule.KINDS`.
    scale_range: smallest and largest factor by which images are enlarged.
    options: of the schedule.
    """

    size: tuple[int, int]
    schedule: str
    scale_range: tuple[float, float]
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """Options that determine the length of a training run and its batches.

    batch_size: images of a batch at the full crop.
    crop: see `CropOptions`.
    total: length of the run.
    checkpoint: between checkpoints; None = only at the end.
    evaluate: between evaluations; None = no evaluation.
    accumulate_steps: micro-batches of a step.
    where: config key of the stage.
    groups: of a micro-batch's images that batch norms normalise by their own statistics.
    """

    batch_size: int
    crop: CropOptions
    total: Duration
    checkpoint: Duration | None
    evaluate: Duration | None
    accumulate_steps: int
    where: str
    groups: int = 1

    def multiple(self, mesh: Mesh) -> int:
        """Returns the number that divides every batch: micro-batches that both devices and groups share out."""
        return math.lcm(parallel.axis_size(mesh, "data"), self.groups) * self.accumulate_steps


def read_plan(settings: Mapping[str, Any], where: str, groups: int = 1) -> PlanOptions:
    """Reads batch_size, crop, accumulate_steps, total_*, checkpoint_* and eval_* of a stage's section.

    groups: of the network's batch norms.

    Raises UserError for unknown keys, wrong numbers, a missing length, and groups that do not divide a batch.
    """
    crop = read_crop_options(settings["crop"], f"{where}.crop")
    check_numbers(settings, ("batch_size", "accumulate_steps"), where=where, low=1)
    total, checkpoint, evaluate = (
        read_duration(settings, name, where=where) for name in ("total", "checkpoint", "eval")
    )
    if total is None or not total.value:
        raise UserError(f"config {where} needs a length: one of total_epochs, _steps or _examples, above 0.")
    if total.unit == "percent":
        total.steps()  # raises UserError: a length in percent has nothing to refer to
    batch, steps = settings["batch_size"], settings.get("accumulate_steps", 1)
    if groups > 1 and batch % (groups * steps):
        micro = f" in {steps} micro-batches" if steps > 1 else ""
        raise UserError(
            f"config key {where}.batch_size={batch}{micro} cannot be divided into {where}.model.options.bn_groups="
            f"{groups} groups of as many images each; make it a multiple of {groups * steps}."
        )
    return PlanOptions(batch, crop, total, checkpoint, evaluate, steps, where, groups)


def read_crop_options(settings: Mapping[str, Any], where: str) -> CropOptions:
    """Reads a section `crop`. Raises UserError for unknown keys, and for sizes or factors that are not two numbers."""
    crop = plain(settings)
    known = {"size", "schedule", "scale_range", *recipe_options(crop_schedule)}
    check_keys(crop, known, where=where, required=("size",))
    kind, size = crop.pop("schedule", "constant"), _pair(crop.pop("size"), int, where=f"{where}.size")
    choose(dict.fromkeys(KINDS), kind, where=f"{where}.schedule")
    scale_range = _pair(crop.pop("scale_range", (1.0, 1.0)), (int, float), where=f"{where}.scale_range")
    return CropOptions(size, kind, scale_range, options_of(crop, crop_schedule, where=where))


def make_run_plan(
    options: PlanOptions, plan: data.EpochPlan, mesh: Mesh, frames: Callable[[int], Sequence[int]] = lambda epoch: (1,)
) -> RunPlan:
    """Returns the plan of a training run.

    options: see `read_plan`.
    plan: samples of every epoch.
    mesh: of devices.
    frames: epoch -> frames of the samples of its steps, in turns.

    Raises UserError for a batch that does not fit an epoch or the mesh, and for crops that do not fit the schedule.
    """
    crop, batch, total = options.crop, options.batch_size, options.total
    divisor = options.multiple(mesh)

    def lengths_of(epochs: int) -> list[int]:
        return [plan.length_of(epoch) for epoch in range(epochs)]

    def shapes_of(epochs: int) -> tuple[list[data.Bucket], dict[data.Bucket, int]]:
        shapes = crop_schedule(crop.schedule, epochs, crop.size, batch, divisor, **crop.options)
        return fit_batches(shapes, lengths_of(epochs), batch, divisor)

    def timeline_of(epochs: int, total_steps: int | None = None) -> data.Timeline:
        turns = [tuple(frames(epoch)) for epoch in range(epochs)]
        return data.Timeline(lengths_of(epochs), shapes_of(epochs)[0], total_steps=total_steps, frames=turns)

    scale = dict(steps_per_epoch=max(plan.length_of(0) // batch, 1), examples_per_step=batch)
    if total.unit == "examples":
        epochs, wanted = _enough_examples(total.value, timeline_of, lengths_of)
        timeline = timeline_of(epochs, wanted)
    else:
        epochs = total.epochs(**scale)
        timeline = timeline_of(epochs)
    if total.unit == "steps":
        # larger batches at small crops make epochs shorter: add epochs until they contain all the steps
        wanted = total.steps()
        while timeline.total_steps < wanted:
            epochs += math.ceil((wanted - timeline.total_steps) / scale["steps_per_epoch"])
            timeline = timeline_of(epochs)
        timeline = timeline_of(epochs, wanted)
    for shape, most in shapes_of(epochs)[1].items():
        log.info(
            "crops of %dx%d (h x w): batches of %d images are cut to %d, the largest multiple of %d in an epoch",
            *shape.crop, shape.batch, most, divisor,
        )  # fmt: skip

    per_step = timeline.examples(timeline.total_steps) / timeline.total_steps
    mean = timeline.epoch_start(epochs) / epochs
    scale = dict(steps_per_epoch=mean, examples_per_step=per_step, total_steps=timeline.total_steps)
    checkpoint, evaluate = (
        0 if duration is None else duration.steps(**scale) for duration in (options.checkpoint, options.evaluate)
    )
    return RunPlan(plan, timeline, Events(checkpoint_steps=checkpoint, eval_steps=evaluate), per_step)


def _enough_examples(
    examples: float, timeline_of: Callable[[int], data.Timeline], lengths_of: Callable[[int], list[int]]
) -> tuple[int, int]:
    """Returns (epochs, steps) of a run whose images come nearest to a number; 1 step at least.

    examples: the number. timeline_of, lengths_of: number of epochs -> timeline, samples of each epoch.
    """
    epochs = max(1, int(examples // max(lengths_of(1))))  # no epoch shows more images than it has samples
    while True:
        timeline = timeline_of(epochs)
        steps = max(1, timeline.steps_for(examples))
        if steps <= timeline.total_steps:
            return epochs, steps
        missing = examples - timeline.examples(timeline.total_steps)
        epochs += max(1, int(missing // max(lengths_of(epochs))))


def _pair(value: Any, kind: Any, *, where: str) -> tuple[Any, Any]:
    """Returns the value as a tuple. Raises UserError unless it is two numbers of that kind above 0."""
    good = isinstance(value, (tuple, list)) and len(value) == 2
    if not good or not all(isinstance(x, kind) and not isinstance(x, bool) and 0 < x < math.inf for x in value):
        wanted = "height and width in whole pixels, as (320, 448)" if kind is int else "two factors, as (0.5, 2.0)"
        shown = tuple(value) if isinstance(value, list) else value
        raise UserError(f"config key {where}={shown!r} must be {wanted} is.")
    return tuple(value)
