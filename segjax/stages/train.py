"""Stage "train": trains a network on the labelled images of a split, and on extra data."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from segjax import augment, data, evaluation, models, parallel
from segjax.costs.program import log_step_costs
from segjax.data.epoch_plans import CutPlan
from segjax.data.epoch_shares import EpochShares
from segjax.data.plans import Extra, make_plan, parts_of
from segjax.errors import UserError, choose
from segjax.inference.network import class_ids
from segjax.stages.config.keys import check_keys, options_of
from segjax.stages.dataset import Dataset
from segjax.stages.extension import begin_extension, last_rate
from segjax.stages.extra_data import check_classes, open_extras, read_extras
from segjax.stages.own_classes import check_choice, compared_classes
from segjax.stages.part_targets import check_soft, online_parts, online_thresholds, part_names
from segjax.stages.record_lists import write_record_lists
from segjax.stages.run_plan import make_run_plan
from segjax.stages.sampler import check_sampler, read_sampler
from segjax.stages.stage import Context, Preview, Stage
from segjax.stages.terms import check_no_teacher, read_loss
from segjax.stages.train_step import Options, make_network, make_training, program, useful_flops
from segjax.stages.training_options import KEYS, find_init, read_training, training_inputs, warn_of_first_weights
from segjax.training.placement import place_state
from segjax.training.run import RunPlan, Score, TrainingTask, run_training
from segjax.training.start import check_init, first_variables, with_source_options
from segjax.training.terms import check_outputs

log = logging.getLogger("segjax")


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys, names and outputs, and wrong values."""
    own = {"extra", "sampler", "augment", "normalisation", "loss", "accumulate_steps", "eval_classes"}
    check_keys(settings, KEYS | own, where=where, required=("batch_size", "crop", "model", "loss", "optimizer"))
    check_choice(settings, "eval_classes", where=where)
    normalisation = settings.get("normalisation", "imagenet")
    choose(augment.NORMALISATION, normalisation, where=f"{where}.normalisation")
    extra = read_extras(settings.get("extra", {}), f"{where}.extra")
    sampler = read_sampler(settings.get("sampler", {}), where)
    check_sampler(sampler, extra)
    training = read_training(settings, where, family="image")
    loss = read_loss(settings["loss"], part_names(extra), f"{where}.loss")
    check_no_teacher(loss, f"{where}.loss")
    model = models.create(training["model"], 2, **training["model_options"])  # the real number comes with the data
    check_outputs(loss, model.loss_weights, getattr(model, "loss_names", {}), where=f"{where}.loss")
    check_init(model, training["init"], f"{where}.init")
    return Options(
        **training,
        extra=extra,
        sampler=sampler,
        augmentation=options_of(settings.get("augment", {}), augment.augment_batch, where=f"{where}.augment"),
        normalisation=normalisation,
        loss=loss,
        eval_classes=settings.get("eval_classes", "all"),
    )


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return {**training_inputs(options, begun), **{f"{e.where.partition('.')[2]}.stage": e.stage for e in options.extra}}


def check(options: Options, preview: Preview) -> None:
    """Raises UserError for extra data with other classes than the dataset of the stage, see `Stage.check`.

    Logs a warning for first weights that are not those of the published training.
    """
    warn_of_first_weights(options, preview)
    check_classes(options.extra, options.dataset or preview.dataset)


def run(options: Options, context: Context) -> dict[str, Any]:
    """Trains to the end of the schedule, from the newest checkpoint if there is one, and returns the report.

    Raises UserError for data and weights that cannot be read or do not fit the settings, and as `run_training` does.
    """
    dataset = options.dataset or context.dataset
    mesh = parallel.make_mesh(options.mesh)
    real, samples, extras, plan = open_training(options, context, mesh)
    online = online_thresholds(options.extra, real.class_names)
    held_out, compared = open_held_out(options, dataset), ()
    if held_out is not None:
        held_out, compared = compared_classes(options.eval_classes, dataset, held_out, "validation")
    shares = EpochShares(plan.epochs, parts_of(real, extras), real.class_names)
    for epoch in special_epochs(plan):
        shares.log_table(epoch)
    write_record_lists(context.folder, real, extras)

    spec, model = make_network(options, real.num_classes)
    variables = first_variables(
        model,
        find_init(options.init, context),
        seed=context.seed,
        where=f"{context.name}.init",
        class_names=real.class_names,
        normalisation=options.normalisation,
    )
    optimizer, schedule, step_of = make_training(
        options, model, variables["params"], plan, mesh, context.seed, parts_of(real, extras), online
    )
    state = place_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0)
    task = TrainingTask(
        samples=samples,
        plan=plan,
        make_step=step_of,
        state=state,
        frozen={},
        meta={
            "model": spec,
            "normalisation": options.normalisation,
            "label_map": real.label_map.to_dict(),
            "dataset": dataset.settings,
            "config": context.settings,
        },
        score=make_score(options, held_out, compared, model, mesh),
        epoch_begins=shares.log_line,
        describe=functools.partial(log_step_costs, mesh=mesh, spec=spec, useful=functools.partial(useful_flops, spec)),
    )
    begin_extension(context, plan, schedule)
    state, report = run_training(task, options.run, options.reading, mesh, name=context.name, folder=context.folder)
    validation = {"validation": report["history"][-1]} if report["history"] else {}
    composition = shares.report(special_epochs(plan), len(plan.epoch_starts))
    return {**report, "last_learning_rate": last_rate(schedule, plan), "epoch_shares": composition, **validation}


def open_training(
    options: Options, context: Context, mesh: Mesh
) -> tuple[data.Source, data.ImageCrops, list[Extra], RunPlan]:
    """Returns (records of the split, samples of the training, extra records, plan of the run).

    options: of the stage.
    context: of the stage.
    mesh: of devices.

    Raises UserError for data that cannot be read, for crops or batches that do not fit, and for a loss of soft labels
    if there are none.
    """
    dataset = options.dataset or context.dataset
    real = dataset.open("train")
    real.label_map.require_classes()
    source, extras = open_extras(options.extra, real, context, dataset)
    check_soft(options.loss, source.top_k, f"{context.name}.loss")
    sampler = options.sampler
    epochs = make_plan(
        sampler.kind,
        sampler.options,
        real,
        extras,
        seed=context.seed,
        cache=context.workdir / "centroids",
        cut_epoch=sampler.cut_epoch,
        cut_places=sampler.cut_places,
        where=sampler.where,
    )
    unlabelled = [(e.first, e.first + len(e.source)) for e in (extras[n - 1] for n in online_parts(options.extra))]
    samples = data.ImageCrops(options.reading.cached(source), options.plan.crop.scale_range, unlabelled)
    return real, samples, extras, make_run_plan(options.plan, epochs, mesh)


def special_epochs(plan: RunPlan) -> list[int]:
    """Returns the first epoch, and the first one after a cut: those whose composition is logged as a table."""
    epochs = [0]
    if isinstance(plan.epochs, CutPlan) and plan.epochs.epoch + 1 < plan.timeline.epochs:
        epochs.append(plan.epochs.epoch + 1)
    return epochs


def open_held_out(options: Options, dataset: Dataset) -> data.Source | None:
    """Opens the validation split; returns None without that split, or without eval_*.

    Raises UserError for data that cannot be read, before the network is set up.
    """
    if not dataset.splits.get("validation") or options.plan.evaluate is None:
        return None
    try:
        return dataset.open("validation")
    except UserError as error:
        raise UserError(
            f"{error} Training is scored on config key dataset.validation={dataset.splits['validation']!r}: add images "
            "of this split, or name another one, as in --config.dataset.validation=test"
        ) from None


def make_score(
    options: Options, held_out: data.Source | None, compared: Sequence[int], model: Any, mesh: Mesh
) -> Score | None:
    """Builds (state, after_batch) -> scores on the validation split; returns None without it.

    options: of the stage.
    held_out, compared: see `open_held_out` and `compared_classes`.
    model: the network.
    mesh: of devices.
    """
    if held_out is None:
        return None
    scorer = evaluation.Scorer(
        class_ids(model, options.normalisation, classes=compared),
        held_out,
        mesh=mesh,
        batch_size=options.plan.batch_size,
        limit=options.eval_limit,
    )
    return lambda state, after_batch: evaluation.headline(scorer(state.best_variables, progress=after_batch))


def network(options: Options) -> dict[str, Any]:
    """Returns the spec of the network without the number of classes. Raises UserError as `with_source_options` does."""
    given = {**options.model_options, "dtype": options.dtype, "remat": options.remat}
    return with_source_options({"name": options.model, "options": given}, options.init)


STAGE = Stage(read, run, inputs, check, extends=True, network=network, program=program)
