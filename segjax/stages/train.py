"""Stage "train": a network on the labelled images of a split."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, data, parallel, training
from segjax.errors import UserError
from segjax.stages import build
from segjax.stages.scoring import Scorer
from segjax.stages.settings import as_text, check_keys, options_of, plain
from segjax.training.buckets import CompiledSteps
from segjax.training.checkpoints import Checkpoints
from segjax.training.loop import Schedule, Segment, train
from segjax.training.state import TrainState, init_state
from segjax.training.step import make_train_step

log = logging.getLogger("segjax")

DURATIONS = ("total", "checkpoint", "eval")
KEYS = {
    "kind", "batch_size", "crop", "sampler", "augment", "normalisation", "model", "init", "dtype", "remat", "loss",
    "optimizer", "accumulate_steps", "ema_decay", "mesh", "loader", "log_steps", "eval_limit", "keep",
    *(f"{name}_{unit}" for name in DURATIONS for unit in training.durations.UNITS),
}  # fmt: skip


@dataclass(frozen=True)
class Bucket:
    """A shape of batch: what one executable is compiled for."""

    crop: tuple[int, int]
    batch: int


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Trains until the end of the schedule, from the newest checkpoint where there is one. Returns the report."""
    check_keys(settings, KEYS, where=context.name, required=("batch_size", "crop", "model", "loss", "optimizer"))
    mesh = parallel.make_mesh(plain(settings.get("mesh", {"data": -1})))

    # data: records -> epoch plans -> steps
    source = build.open_split(context.dataset, "train")
    crops = plain(settings["crop"])
    scale_range = tuple(crops.pop("scale_range", (1.0, 1.0)))
    plan = make_plan(source, settings.get("sampler", {"kind": "uniform"}), seed=context.seed, where=context.name)
    timeline, total_steps = make_timeline(settings, crops, plan, mesh=mesh, where=context.name)
    per_epoch = total_steps / timeline.epoch_of(total_steps - 1) if False else timeline.mean_steps_per_epoch
    del per_epoch
