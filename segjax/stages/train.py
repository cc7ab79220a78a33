"""Stage "train": a network on the labelled images of a split."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import augment, data, models, parallel
from segjax.data.epoch_shares import describe_shares, epoch_shares
from segjax.data.plans import CutPlan
from segjax.errors import choose
from segjax.evaluation import scorer as scoring
from segjax.files import plain
from segjax.stages import build
from segjax.stages.config import durations
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.extra_data import Extra, check_extras, open_extras, parts_of
from segjax.stages.run_plan import Timetable, make_timetable
from segjax.stages.training_run import OPTIMIZER_KEYS, check_training, compilable, place_state, run_steps
from segjax.training.compiled import CompiledSteps
from segjax.training.optimizer import make_optimizer
from segjax.training.schedules import make_schedule
from segjax.training.step import make_train_step

log = logging.getLogger("segjax")

KEYS = {
    "kind", "dataset", "extra", "batch_size", "crop", "sampler", "augment", "normalisation", "model", "init", "dtype",
    "remat", "loss", "optimizer", "accumulate_steps", "ema_decay", "mesh", "param_rules", "loader",
    "log_steps", "eval_limit", "keep",
    *(f"{name}_{unit}" for name in ("total", "checkpoint", "eval") for unit in durations.UNITS),
}  # fmt: skip


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Trains to the end of the schedule, from the newest checkpoint where there is one. Returns the report."""
    check(settings, where=context.name)
    dataset = settings.get("dataset") or context.dataset
    mesh = parallel.make_mesh(plain(settings.get("mesh", {"data": -1})))
    real, source, extras, table = open_training(settings, context, mesh)
    shares = log_shares(table, real, extras)

    dtype, remat = build.compute_dtype(settings.get("dtype", "auto")), settings.get("remat", False)
    spec = build.model_spec(settings["model"], num_classes=source.num_classes, dtype=dtype, remat=remat)
    spec = build.with_source_options(spec, settings.get("init", {}))
    model = build.create_model(spec)
    init = build.run_init(settings.get("init", {}), context)
    variables = build.first_variables(
        model, init, seed=context.seed, class_names=source.class_names,
        normalisation=settings.get("normalisation", "imagenet"),
    )  # fmt: skip
    schedule, optimizer = make_updates(settings["optimizer"], variables["params"], table)
    state = place_state(settings, variables, optimizer, mesh)
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

    state, told = run_steps(
        settings,
        context,
        table=table,
        state=state,
        steps=steps,
        batch_spec=table.batch_spec,
        batches=functools.partial(open_batches, settings, source, table, mesh),
        mesh=mesh,
        meta=meta,
        score=score and (lambda state: scoring.headline(score(state.best_variables))),
        names=lambda record: source.names[record],
    )
    return {
        "steps": int(state.step),
        "epochs": table.epochs,
        "epoch_shares": shares,
        "parameters": int(sum(np.prod(x.shape) for x in jax.tree.leaves(state.params))),
        **told,
        **({} if not told["history"] else {"validation": told["history"][-1]}),
    }


def check(settings: Mapping[str, Any], *, where: str) -> None:
    """Raises UserError for settings that no training could be run with; reads no data."""
    check_keys(settings, KEYS, where=where, required=("batch_size", "crop", "model", "loss", "optimizer"))
    check_training(settings, where=where)
    choose(models.MODELS, settings["model"].get("name", ""), where=f"{where}.model.name")
    check_extras(settings.get("extra", {}), where=f"{where}.extra")
    sampler = settings.get("sampler", {})
    check_numbers(sampler, ("tile", "cut_epoch"), where=f"{where}.sampler", low=0)
    check_numbers(sampler, ("min_area",), where=f"{where}.sampler", low=1)
    check_numbers(sampler, ("share",), where=f"{where}.sampler", low=0, whole=False)
    build.normalisation(settings.get("normalisation", "imagenet"))
    build.loss_terms(settings["loss"], {"logits": 1.0})
    augment_options(settings, where=where)
    loader_options(settings, where=where)


def open_training(
    settings: Mapping[str, Any], context: Any, mesh: Mesh
) -> tuple[data.Source, data.Source, list[Extra], Timetable]:
    """(the records of the split, all records that are trained on, those beside the split's, the run as data)."""
    real = build.open_split(settings.get("dataset") or context.dataset, "train")
    source, extras = open_extras(settings.get("extra", {}), real, context, where=f"{context.name}.extra")
    table = make_timetable(
        settings,
        real,
        mesh=mesh,
        seed=context.seed,
        cache=context.workdir / "centroids",
        where=context.name,
        extras=extras,
    )
    return real, source, extras, table


def log_shares(table: Timetable, real: data.Source, extras: Sequence[Extra]) -> dict[str, Any]:
    """Tells what the first epoch, and the first one after a cut, are made of. Returns both, by epoch from 0."""
    epochs = [0]
    if isinstance(table.plan, CutPlan) and table.plan.epoch + 1 < table.timeline.epochs:
        epochs.append(table.plan.epoch + 1)
    parts, found = parts_of(real, extras), {}
    for epoch in epochs:
        found[str(epoch)] = epoch_shares(table.plan.build(epoch), parts, real.class_names)
        for line in describe_shares(found[str(epoch)]):
            log.info("epoch %d: %s", epoch + 1, line)
    return found


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
    options = loader_options(settings, where="train")
    part, parts = parallel.batch_part(mesh)
    return data.train_batches(
        source, table.plan, table.timeline,
        start_step=start, scale_range=table.scale_range, process_index=part, process_count=parts, **options,
    )  # fmt: skip


def make_augment(settings: Mapping[str, Any], *, crop: tuple[int, int], seed: int) -> Callable:
    """uint8 batch -> (images, labels) as `train.augment` and `train.normalisation` say; see `augment.augment_batch`."""
    mean, std = build.normalisation(settings.get("normalisation", "imagenet"))
    options = augment_options(settings, where="train")
    return functools.partial(augment.augment_batch, seed=seed, crop=crop, mean=mean, std=std, **options)


def loader_options(settings: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """`loader` as options of `data.train_batches`."""
    given = ("source", "plan", "timeline", "start_step", "end_step", "scale_range", "process_index", "process_count")
    return options_of(settings.get("loader", {}), data.train_batches, where=f"{where}.loader", given=given)


def augment_options(settings: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """`augment` as options of `augment.augment_batch`."""
    given = ("batch", "seed", "crop", "mean", "std", "ignore_label")
    return options_of(settings.get("augment", {}), augment.augment_batch, where=f"{where}.augment", given=given)


def make_updates(settings: Mapping[str, Any], params: Any, table: Timetable) -> tuple[Callable, Any]:
    """(schedule, optimizer) of `train.optimizer`."""
    where = "train.optimizer"
    check_keys(settings, OPTIMIZER_KEYS, where=where, required=["name", "lr"])
    curve = plain(settings.get("schedule", {"kind": "constant"}))
    warmup = durations.resolve_steps(
        curve,
        "warmup",
        steps_per_epoch=table.steps_per_epoch,
        examples_per_step=table.examples_per_step,
        total_steps=table.total_steps,
        default=0,
        where=f"{where}.schedule",
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
        lr_rules=tuple(settings.get("lr_rules", ((".*", 1.0),))),
        decay_rules=tuple(settings.get("decay_rules", ((".*", 1.0),))),
        **options_of(settings.get("options", {}), make_optimizer, where=f"{where}.options", given=given),
    )
    return schedule, optimizer


def build_step(settings, table, state, model, schedule, optimizer, mesh, seed, bucket: data.Bucket):
    """(step function, abstract arguments) for one shape of batch."""
    step = make_train_step(
        model.apply,
        build.loss_terms(settings["loss"], model.loss_weights, loss_names=getattr(model, "loss_names", None)),
        optimizer,
        schedule,
        make_augment(settings, crop=bucket.crop, seed=seed),
        seed=seed,
        accumulate_steps=settings.get("accumulate_steps", 1),
        ema_decay=settings.get("ema_decay", 0.0),
        constrain=parallel.constrain_images(mesh),
    )
    return compilable(step, state, table.batch_spec(bucket), mesh)
