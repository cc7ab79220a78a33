"""When everything happens: epochs with their crops and batches, and the steps at which to save and evaluate."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from segjax import data, parallel
from segjax.data.crop_schedule import KINDS, crop_schedule
from segjax.errors import UserError, choose
from segjax.files import plain
from segjax.stages.config import durations
from segjax.stages.config.keys import check_keys, options_of
from segjax.stages.extra_data import Extra, make_plan
from segjax.training.loop import Events


@dataclass(frozen=True)
class Timetable:
    """The run as data; every process has the same.

    scale_range: factors images are enlarged by. sizes: (n, 2) height, width of the source's images. examples_per_step:
    the mean over the run, with what a last batch leaves out of an epoch.
    """

    plan: data.EpochPlan
    timeline: data.Timeline
    events: Events
    scale_range: tuple[float, float]
    sizes: np.ndarray
    examples_per_step: float

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.timeline.total_steps

    @property
    def epochs(self) -> float:
        """Epochs of the whole run; a fraction where it stops within one."""
        return self.timeline.progress(self.total_steps)

    @property
    def epoch_starts(self) -> list[int]:
        """First step of each epoch."""
        starts = map(self.timeline.epoch_start, range(self.timeline.epochs))
        return [start for start in starts if start < self.total_steps]

    @property
    def steps_per_epoch(self) -> float:
        """The mean, as crop schedules change it."""
        return self.total_steps / self.epochs

    def batch_spec(self, bucket: data.Bucket) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Shape and dtype of the arrays of a global batch, see `data.train_batches`."""
        b, window = bucket.batch, data.window_size(bucket.crop, self.scale_range, self.sizes)
        return {
            "image": ((b, *window, 3), np.uint8),
            "label": ((b, *window), np.uint8),
            "extent": ((b, 4), np.float32),
            "box": ((b, 4), np.float32),
            **{name: ((b,), np.int32) for name in ("index", "epoch", "record")},
        }


def make_timetable(
    settings: Mapping[str, Any],
    source: data.Source,
    *,
    mesh: Mesh,
    seed: int,
    cache: Path,
    where: str,
    extras: Sequence[Extra] = (),
) -> Timetable:
    """Works out the run from `sampler`, `crop`, `batch_size`, `total_*`, `checkpoint_*` and `eval_*`.

    source: the real records; extras: those that follow them in what is trained on.
    """
    sampler = settings.get("sampler", {"kind": "uniform"})
    plan = make_plan(sampler, source, extras, seed=seed, cache=cache, where=where)
    kind, size, scale_range, options = read_crop(settings["crop"], where=f"{where}.crop")
    batch = settings["batch_size"]
    divisor = parallel.axis_size(mesh, "data") * settings.get("accumulate_steps", 1)

    def timeline_of(epochs: int, total_steps: int | None = None) -> data.Timeline:
        shapes = crop_schedule(kind, epochs=epochs, crop=size, batch=batch, batch_divisor=divisor, **options)
        return data.Timeline([plan.length_of(e) for e in range(epochs)], shapes, total_steps=total_steps)

    scale = dict(steps_per_epoch=max(plan.length_of(0) // batch, 1), examples_per_step=batch, where=where)
    epochs = durations.resolve_epochs(settings, "total", **scale)
    timeline = timeline_of(epochs)
    if durations.find_duration(settings, "total", where=where)[1] != "epochs":
        # larger batches at small crops make epochs shorter: add epochs until the steps asked for fit
        wanted = durations.resolve_steps(settings, "total", **scale)
        while timeline.total_steps < wanted:
            epochs += math.ceil((wanted - timeline.total_steps) / scale["steps_per_epoch"])
            timeline = timeline_of(epochs)
        timeline = timeline_of(epochs, wanted)

    mean = timeline.epoch_start(epochs) / epochs
    per_step = sum(map(plan.length_of, range(epochs))) / epochs / mean
    scale = dict(steps_per_epoch=mean, examples_per_step=per_step, where=where)
    every = {
        f"{name}_steps": durations.resolve_steps(settings, name, total_steps=timeline.total_steps, default=0, **scale)
        for name in ("checkpoint", "eval")
    }
    sizes = np.concatenate([np.asarray(s.sizes) for s in (source, *(extra.source for extra in extras))])
    return Timetable(plan, timeline, Events(**every), scale_range, sizes, per_step)


def read_crop(
    settings: Mapping[str, Any], *, where: str
) -> tuple[str, tuple[int, int], tuple[float, float], dict[str, Any]]:
    """(schedule, size, scale range, other options of `crop_schedule`) of `crop`."""
    crop, given = plain(settings), ("kind", "epochs", "crop", "batch", "batch_divisor")
    known = {"size", "schedule", "scale_range", *inspect.signature(crop_schedule).parameters} - set(given)
    check_keys(crop, known, where=where, required=("size",))
    kind, size = crop.pop("schedule", "constant"), _pair(crop.pop("size"), int, where=f"{where}.size")
    choose(dict.fromkeys(KINDS), kind, where=f"{where}.schedule")
    scale_range = _pair(crop.pop("scale_range", (1.0, 1.0)), (int, float), where=f"{where}.scale_range")
    return kind, size, scale_range, options_of(crop, crop_schedule, where=where, given=given)


def _pair(value: Any, kind: Any, *, where: str) -> tuple[Any, Any]:
    """The value as a tuple; UserError unless it is two numbers of that kind above 0."""
    good = isinstance(value, (tuple, list)) and len(value) == 2
    if not good or not all(isinstance(x, kind) and not isinstance(x, bool) and 0 < x < math.inf for x in value):
        wanted = "height and width in whole pixels, as (320, 448)" if kind is int else "two factors, as (0.5, 2.0)"
        shown = tuple(value) if isinstance(value, list) else value
        raise UserError(f"config key {where}={shown!r} must be {wanted} is.")
    return tuple(value)
