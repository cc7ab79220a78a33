"""Stage "train": a network on the labelled images of a split."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import augment, data, parallel
from segjax.stages import build, scoring
from segjax.stages.settings import check_keys, differences, options_of, plain
from segjax.stages.timetable import Timetable, make_timetable
from segjax.training import durations
from segjax.training.buckets import CompiledSteps
from segjax.training.checkpoints import Checkpoints
from segjax.training.logging import TrainingLog
from segjax.training.loop import train
from segjax.training.memory import log_memory_plan, memory_plan
from segjax.training.optimizer import make_optimizer
from segjax.training.schedules import make_schedule
from segjax.training.state import TrainState, create_state
from segjax.training.step import make_train_step
from segjax.training.writers import open_writers
from segjax.typing import Variables

log = logging.getLogger("segjax")

KEYS = {
    "kind", "dataset", "batch_size", "crop", "sampler", "augment", "normalisation", "model", "init", "dtype", "remat",
    "loss", "optimizer", "accumulate_steps", "ema_decay", "mesh", "loader", "log_steps", "eval_limit", "keep",
    *(f"{name}_{unit}" for name in ("total", "checkpoint", "eval") for unit in durations.UNITS),
}  # fmt: skip


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Trains to the end of the schedule, from the newest checkpoint where there is one. Returns the report."""
    check_keys(settings, KEYS, where=context.name, required=("batch_size", "crop", "model", "loss", "optimizer"))
    dataset = settings.get("dataset") or context.dataset
    mesh = parallel.make_mesh(plain(settings.get("mesh", {"data": -1})))
    source = build.open_split(dataset, "train")
    table = make_timetable(
        settings, source, mesh=mesh, seed=context.seed, cache=context.workdir / "centroids", where=context.name
    )

    dtype, remat = build.compute_dtype(settings.get("dtype", "auto")), settings.get("remat", False)
    spec = build.model_spec(settings["model"], num_classes=source.num_classes, dtype=dtype, remat=remat)
    model = build.create_model(spec)
    variables = build.first_variables(model, settings.get("init", {}), seed=context.seed)
    schedule, optimizer = make_updates(settings["optimizer"], variables["params"], table)
    state = place(variables, optimizer, ema=settings.get("ema_decay", 0.0) > 0, mesh=mesh)
    steps = CompiledSteps(
        functools.partial(build_step, settings, table, state, model, schedule, optimizer, mesh, context.seed)
    )
    score = make_scorer(settings, dataset, model, mesh)
    meta = {
        "model": spec,
        "normalisation": settings.get("normalisation", "imagenet"),
        "label_map": source.label_map.to_dict(),
        "dataset": plain(dataset),
        "config": plain(settings),
    }

    with Checkpoints(context.folder / "checkpoints", keep=settings.get("keep", 2)) as checkpoints:
        state, history = resume(checkpoints, state, {context.name: meta["config"], "dataset": meta["dataset"]})
        start = int(state.step)
        if start >= table.total_steps:
            log.info("nothing left to train: step %d of %d", start, table.total_steps)
        runs = table.timeline.runs(start)
        if runs:
            bucket = runs[0].bucket
            groups = {"parameters": state.variables, "optimizer": state.opt_state, "average": state.ema}
            groups["batch"] = batch_arguments(table, bucket, mesh)
            log_memory_plan(memory_plan(steps.get(bucket), groups=groups), name="training step")
        with TrainingLog(
            start_step=start,
            total_steps=table.total_steps,
            log_steps=settings.get("log_steps", 10),
            writers=open_writers(context.folder, start_step=start),
            epoch_of=lambda step: table.timeline.at(step).epoch,
        ) as progress:
            evaluate = Evaluations(score, history) if score else None
            state = train(
                state,
                runs=runs,
                steps=steps,
                batches=open_batches(settings, source, table, mesh, start),
                to_devices=functools.partial(parallel.shard_batch, mesh=mesh),
                checkpoints=checkpoints,
                meta=lambda step: {**meta, "history": history},
                events=table.events,
                progress=progress,
                evaluate=evaluate,
                names=lambda record: source.names[record],
                parts=parallel.batch_part(mesh)[1],
            )
    steps.close()
    return {
        "steps": int(state.step),
        "epochs": table.epochs,
        "parameters": int(sum(np.prod(x.shape) for x in jax.tree.leaves(state.params))),
        **progress.summary(),
        "history": history,
        **({} if not history else {"validation": history[-1]}),
    }


class Evaluations:
    """The validation scores of a run so far: (state, step) -> the newest, which `history` then ends with."""

    def __init__(self, score: scoring.Scorer, history: list[dict[str, float]]):
        self._score, self._history = score, history

    def __call__(self, state: TrainState, step: int) -> dict[str, float]:
        """Scores `state` and adds the result to the history."""
        scores = scoring.headline(self._score(state.best_variables))
        self._history[:] = [entry for entry in self._history if entry["step"] < step]
        self._history.append({"step": step, **{name: round(value, 6) for name, value in scores.items()}})
        return scores


def make_scorer(settings, dataset, model, mesh) -> scoring.Scorer | None:
    """The score on the validation split, where the settings ask for it."""
    if not dataset.get("validation") or durations.find_duration(settings, "eval") is None:
        return None
    return scoring.Scorer(
        model,
        build.open_split(dataset, "validation"),
        mesh=mesh,
        normalisation=settings.get("normalisation", "imagenet"),
        batch_size=settings["batch_size"],
        limit=settings.get("eval_limit") or None,
    )


def open_batches(settings, source, table, mesh, start):
    """(step, this process's rows) from step `start` on."""
    given = ("source", "plan", "timeline", "start_step", "end_step", "scale_range", "process_index", "process_count")
    options = options_of(settings.get("loader", {}), data.train_batches, where="train.loader", given=given)
    part, parts = parallel.batch_part(mesh)
    return data.train_batches(
        source, table.plan, table.timeline,
        start_step=start, scale_range=table.scale_range, process_index=part, process_count=parts, **options,
    )  # fmt: skip


def make_updates(settings: Mapping[str, Any], params: Any, table: Timetable) -> tuple[Callable, Any]:
    """(schedule, optimizer) of `train.optimizer`."""
    where = "train.optimizer"
    check_keys(
        settings, {"name", "lr", "options", "schedule", "lr_rules", "decay_rules"}, where=where, required=["name", "lr"]
    )
    curve = plain(settings.get("schedule", {"kind": "constant"}))
    warmup = durations.resolve_steps(
        curve, "warmup", steps_per_epoch=table.steps_per_epoch, total_steps=table.total_steps, default=0, where=where
    )
    curve = {key: value for key, value in curve.items() if not key.startswith("warmup_") or key == "warmup_start"}
    given = ("base_lr", "total_steps", "epoch_starts", "warmup_steps")
    schedule = make_schedule(
        base_lr=settings["lr"],
        total_steps=table.total_steps,
        epoch_starts=table.epoch_starts,
        warmup_steps=warmup,
        **options_of(curve, make_schedule, where=f"{where}.schedule", given=given),
    )
    given = ("name", "schedule", "params", "lr_rules", "decay_rules")
    optimizer = make_optimizer(
        settings["name"],
        schedule,
        params=params,
        lr_rules=tuple(map(tuple, settings.get("lr_rules", ((".*", 1.0),)))),
        decay_rules=tuple(map(tuple, settings.get("decay_rules", ((".*", 1.0),)))),
        **options_of(settings.get("options", {}), make_optimizer, where=f"{where}.options", given=given),
    )
    return schedule, optimizer


def place(variables: Variables, optimizer: Any, *, ema: bool, mesh: Mesh) -> TrainState:
    """The state at step 0 on every device of the mesh."""
    create = functools.partial(create_state, optimizer=optimizer, ema=ema)
    return jax.jit(create, out_shardings=parallel.replicated(mesh))(jax.tree.map(np.asarray, variables))


def resume(
    checkpoints: Checkpoints, state: TrainState, configs: Mapping[str, Any]
) -> tuple[TrainState, list[dict[str, float]]]:
    """The newest intact checkpoint and the scores so far, or `state` and none.

    configs: of the stage (first) and the data, by name. What the run was started with otherwise is told, not refused:
    more epochs or another log interval are fair wishes, and a change made by mistake is seen.
    """
    restored = checkpoints.restore(state)
    if restored is None:
        return state, []
    state, meta = restored
    log.info("going on from step %d (%s)", int(state.step), checkpoints.folder)
    for (name, now), then in zip(configs.items(), (meta.get("config"), meta.get("dataset"))):
        for line in differences(then, now, where=name) if then is not None else ():
            log.warning("not as the run was started: %s", line)
    return state, list(meta.get("history", []))


def build_step(settings, table, state, model, schedule, optimizer, mesh, seed, bucket: data.Bucket):
    """(step function, abstract arguments) for one shape of batch."""
    mean, std = build.normalisation(settings.get("normalisation", "imagenet"))
    given = ("batch", "seed", "crop", "mean", "std", "ignore_label")
    options = options_of(settings.get("augment", {}), augment.augment_batch, where="train.augment", given=given)
    step = make_train_step(
        model.apply,
        build.loss_terms(settings["loss"], model.loss_weights, loss_names=getattr(model, "loss_names", None)),
        optimizer,
        schedule,
        functools.partial(augment.augment_batch, seed=seed, crop=bucket.crop, mean=mean, std=std, **options),
        seed=seed,
        accumulate_steps=settings.get("accumulate_steps", 1),
        ema_decay=settings.get("ema_decay", 0.0),
        constrain=parallel.constrain_images(mesh),
    )
    shardings = jax.tree.map(lambda x: x.sharding, state), parallel.replicated(mesh)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    return step, (abstract, batch_arguments(table, bucket, mesh)), shardings


def batch_arguments(table: Timetable, bucket: data.Bucket, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the arrays the step is fed, with where they lie."""
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.batch_sharding(mesh, len(shape)))
        for name, (shape, dtype) in table.batch_spec(bucket).items()
    }
