"""Options that all training stages share: read from the section, and built into objects once the data is open."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from segjax import models
from segjax.data import Reading
from segjax.errors import UserError, choose
from segjax.files import plain
from segjax.inference.network import compute_dtype, find_run
from segjax.stages.config.durations import Duration, duration_keys, read_duration
from segjax.stages.config.keys import check_keys, check_numbers, options_of, part_of
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.run_plan import PlanOptions, read_plan
from segjax.stages.stage import Context, Preview
from segjax.training.optimizer import make_optimizer
from segjax.training.run import RunOptions, RunPlan
from segjax.training.schedules import make_schedule
from segjax.training.start import Init
from segjax.weights.runs import has_checkpoint

log = logging.getLogger("segjax")

KEYS = {
    "kind", "dataset", "batch_size", "crop", "model", "init", "dtype", "remat", "optimizer", "ema_decay", "mesh",
    "param_rules", "loader", "log_steps", "eval_limit", "keep", *duration_keys("total", "checkpoint", "eval"),
}  # fmt: skip
_EVERY = ((".*", 1.0),)


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The section `optimizer`.

    name: "sgd", "adam", "amsgrad" or "adamw".
    lr: learning rate before the schedule's factor.
    options: keyword-only options of `make_optimizer`.
    schedule: kind of the schedule.
    schedule_options: keyword-only options of `make_schedule`.
    warmup: of the learning rate, None for none.
    lr_rules, decay_rules: (regular expression, multiplier), see `make_optimizer`.
    """

    name: str
    lr: float
    options: Mapping[str, Any]
    schedule: str
    schedule_options: Mapping[str, Any]
    warmup: Duration | None
    lr_rules: tuple
    decay_rules: tuple


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """The options of every training stage; each stage adds its own.

    dataset: None = `config.dataset`.
    plan: length of the run, crops and batches.
    model, model_options: name in `segjax.models`, and its options.
    init: first weights.
    expected_init: what the published training starts from, in words, if that is neither random nor ImageNet weights.
    dtype: of the computation, "float32" or "bfloat16".
    remat: segments whose activations are computed again in the backward pass, which saves memory: True, False, or
        names joined by "+", see models/remat.py.
    optimizer: with its schedule.
    ema_decay: of the moving average of the variables, 0 for none.
    mesh: axis -> number of devices.
    param_rules: (regular expression, axes) by which parameters are split over the mesh.
    reading: how samples are read.
    run: checkpoints and log.
    eval_limit: images or triples that are scored during training, None = all.
    """

    dataset: Dataset | None
    plan: PlanOptions
    model: str
    model_options: Mapping[str, Any]
    init: Init
    expected_init: str
    dtype: str
    remat: bool | str
    optimizer: OptimizerOptions
    ema_decay: float
    mesh: Mapping[str, int]
    param_rules: tuple
    reading: Reading
    run: RunOptions
    eval_limit: int | None


def read_training(settings: Mapping[str, Any], where: str, *, family: str) -> dict[str, Any]:
    """Returns the fields of `TrainingOptions`.

    settings: the section; the caller has checked its keys.
    where: its config key.
    family: of the network, key of `models.FAMILIES`.

    Raises UserError for unknown keys of its sub-sections, unknown names, wrong numbers, and options that the network
    does not accept.
    """
    check_numbers(settings, ("keep",), where=where, low=1)
    check_numbers(settings, ("log_steps", "eval_limit"), where=where, low=0)
    check_numbers(settings, ("ema_decay",), where=where, low=0, below=1, whole=False)
    mesh = settings.get("mesh", {"data": -1})
    check_keys(mesh, ("data", "space"), where=f"{where}.mesh")
    model, networks = settings["model"], models.FAMILIES[family].networks
    choose(networks, model.get("name", ""), where=f"{where}.model.name")
    check_keys(model, {"name", "options"}, where=f"{where}.model", required=["name"])
    options, remat = plain(model.get("options", {})), settings.get("remat", False)
    init = dict(settings.get("init", {}))
    expected = init.pop("expected", "")
    if not isinstance(expected, str):
        raise UserError(f"config key {where}.init.expected={expected!r} must be text, such as 'a Cityscapes network'.")
    # refuses options that the network does not accept, and segments that it does not have, before any stage runs
    models.from_spec({"name": model["name"], "num_classes": 2, "options": {**options, "remat": remat}})
    return dict(
        dataset=read_own_dataset(settings, where),
        plan=read_plan(settings, where, options.get("bn_groups", 1)),
        model=model["name"],
        model_options=options,
        init=read_init(init, f"{where}.init"),
        expected_init=expected,
        dtype=compute_dtype(settings.get("dtype", "auto")),
        remat=remat,
        optimizer=_read_optimizer(settings["optimizer"], f"{where}.optimizer"),
        ema_decay=settings.get("ema_decay", 0.0),
        mesh=plain(mesh),
        param_rules=tuple(settings.get("param_rules", ())),
        reading=Reading(**options_of(settings.get("loader", {}), Reading, where=f"{where}.loader")),
        run=RunOptions(**part_of(settings, RunOptions)),
        eval_limit=settings.get("eval_limit") or None,
    )


def read_init(settings: Mapping[str, Any], where: str) -> Init:
    """Reads a section `init`. Raises UserError for an unknown key."""
    return Init(**options_of(settings, Init, where=where))


def _read_optimizer(settings: Mapping[str, Any], where: str) -> OptimizerOptions:
    fields = ("name", "lr", "options", "schedule", "lr_rules", "decay_rules")
    check_keys(settings, fields, where=where, required=("name", "lr"))
    check_numbers(settings, ("lr",), where=where, low=0, whole=False)
    curve, here = plain(settings.get("schedule", {})), f"{where}.schedule"
    warmup = read_duration(curve, "warmup", where=here)
    curve = {key: value for key, value in curve.items() if key not in duration_keys("warmup")}
    kind = curve.pop("kind", "constant")
    return OptimizerOptions(
        name=settings["name"],
        lr=settings["lr"],
        options=options_of(settings.get("options", {}), make_optimizer, where=f"{where}.options"),
        schedule=kind,
        schedule_options=options_of(curve, make_schedule, where=here),
        warmup=warmup,
        lr_rules=tuple(settings.get("lr_rules", _EVERY)),
        decay_rules=tuple(settings.get("decay_rules", _EVERY)),
    )


def make_optimization(options: OptimizerOptions, params: Any, plan: RunPlan) -> tuple[Any, Callable]:
    """Returns (optimizer, schedule) for the parameters of a run.

    options: see `OptimizerOptions`.
    params: nested dict of parameters.
    plan: of the run.

    Raises UserError as `make_optimizer` and `make_schedule` do.
    """
    scale = dict(steps_per_epoch=plan.steps_per_epoch, examples_per_step=plan.examples_per_step)
    warmup = 0 if options.warmup is None else options.warmup.steps(total_steps=plan.total_steps, **scale)
    schedule = make_schedule(
        options.schedule, options.lr, plan.total_steps, plan.epoch_starts, warmup, **options.schedule_options
    )
    optimizer = make_optimizer(options.name, schedule, params, options.lr_rules, options.decay_rules, **options.options)
    return optimizer, schedule


def find_init(init: Init, context: Context) -> Init:
    """Returns `init` with the folder of the stage that its checkpoint names. Raises UserError for an unknown one.

    Empty if the stage has its own checkpoints: training resumes from them, and the initial weights may no longer exist.
    """
    if has_checkpoint(context.folder / "checkpoints"):
        return Init()
    checkpoint = str(find_run(init.checkpoint, context.workdir)) if init.checkpoint else ""
    return dataclasses.replace(init, checkpoint=checkpoint)


def warn_of_first_weights(options: TrainingOptions, preview: Preview) -> None:
    """Logs a warning for a training that starts from other weights than the published one; see `Stage.check`.

    Nothing is logged if a checkpoint or a file of weights is given, or the training resumes from its own checkpoint.
    """
    init, where = options.init, f"--config.{preview.name}.init"
    given = init.checkpoint or init.weights not in ("", "imagenet")
    if not options.expected_init or given or has_checkpoint(preview.workdir / preview.name / "checkpoints"):
        return
    log.warning(
        "stage %s starts from %s weights, but the published training starts from %s, without which its scores are "
        "lower; add %s%s.checkpoint=RUN, or %s.weights=FILE",
        preview.name, "ImageNet" if init.weights else "random", options.expected_init,
        f"{where}.weights= " if init.weights else "", where, where,
    )  # fmt: skip


def training_inputs(options: TrainingOptions, begun: bool) -> dict[str, str]:
    """Returns the inputs of a training stage, see `Stage.inputs`; once it has checkpoints it needs no first weights."""
    return {"init.checkpoint": "" if begun else options.init.checkpoint}
