"""Stage "train_video": trains a network to reconstruct the next frame of unlabelled video, for propagating labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from segjax import augment, data, models, parallel
from segjax.costs.program import log_step_costs
from segjax.data.plans import make_plan
from segjax.errors import UserError, choose
from segjax.evaluation.reconstruction import ReconstructionScorer
from segjax.files import plain
from segjax.stages.config.keys import check_keys, check_numbers, part_of, recipe_options
from segjax.stages.extension import begin_extension, last_rate
from segjax.stages.run_plan import make_run_plan
from segjax.stages.stage import Context, Stage
from segjax.stages.train_video_step import (
    UNIT,
    FeatureOptions,
    Options,
    frames_of,
    make_features,
    make_network,
    make_training,
    program,
    useful_flops,
)
from segjax.stages.training_options import (
    KEYS,
    find_init,
    read_init,
    read_training,
    training_inputs,
    warn_of_first_weights,
)
from segjax.stages.video_data import VideoDataOptions, flow_statistics, open_record_flow, open_triplets, read_flow
from segjax.training.placement import place_state
from segjax.training.run import TrainingTask, run_training
from segjax.training.start import first_variables
from segjax.training.video_step import RELEASED, TERMS, Features


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys and names, and wrong values."""
    own = {"flow", "loss", "features", "sheet_rows", *recipe_options(VideoDataOptions)}
    check_keys(settings, KEYS | own, where=where, required=("batch_size", "crop", "model", "optimizer"))
    check_keys(settings.get("loss", {}), TERMS, where=f"{where}.loss")
    check_numbers(settings, ("frame_step", "sheet_rows"), where=where, low=0)
    common = read_training(settings, where, family="video")
    if common["plan"].crop.scale_range != (1.0, 1.0):
        raise UserError(f"config key {where}.crop.scale_range: frames keep their scale; leave it out.")
    if common["mesh"].get("space", 1) != 1:
        raise UserError(f"config key {where}.mesh: a video network splits the batch only; set space=1.")
    for name in ("flow_mean", "flow_std"):
        if name in common["model_options"]:
            raise UserError(f"give the flow's statistics as flow.{name[5:]}, not as an option of the model.")
    loss = plain(settings.get("loss", RELEASED))
    return Options(
        **common,
        video=VideoDataOptions(**part_of(settings, VideoDataOptions)),
        flow=read_flow(settings.get("flow", {"name": "dis"}), f"{where}.flow"),
        loss=loss,
        features=_read_features(settings.get("features", {}), f"{where}.features") if _needs_features(loss) else None,
        sheet_rows=settings.get("sheet_rows", 6),
    )


def _needs_features(loss: Mapping[str, float]) -> bool:
    return bool(loss.get("perceptual") or loss.get("style"))


def _read_features(settings: Mapping[str, Any], where: str) -> FeatureOptions:
    check_keys(settings, {"model", "init", "layers", "normalisation"}, where=where, required=("model", "layers"))
    model, normalisation = settings["model"], settings.get("normalisation", "imagenet")
    check_keys(model, {"name", "options"}, where=f"{where}.model", required=["name"])
    choose(augment.NORMALISATION, normalisation, where=f"{where}.normalisation")
    return FeatureOptions(
        model=model["name"],
        model_options=plain(model.get("options", {})),
        init=read_init(settings.get("init", {}), f"{where}.init"),
        layers=tuple(settings["layers"]),
        normalisation=normalisation,
    )


def run(options: Options, context: Context) -> dict[str, Any]:
    """Trains to the end of the schedule, from the newest checkpoint if there is one, and returns the report.

    Raises UserError for data and weights that cannot be read or do not fit the settings, and as `run_training` does.
    """
    mesh = parallel.make_mesh(options.mesh)
    dataset = options.dataset or context.dataset
    triplets, held_out = (
        open_triplets(options.video, options.flow, dataset, options.reading, held_out=part) for part in (False, True)
    )
    init = find_init(options.init, context)
    sampling = data.TripletSampling(
        open_record_flow(options.flow, triplets),
        frames=frames_of(options),
        reverse=options.video.reverse,
        cut_histogram=options.video.cut_histogram,
        flow_on=options.flow.on,
    )
    statistics = flow_statistics(options.flow, sampling, triplets, context, init)
    spec, model = make_network(options, statistics)
    variables = first_variables(
        model, init, seed=context.seed, inputs=models.example_inputs(spec, model), where=f"{context.name}.init"
    )
    plan = make_run_plan(options.plan, make_plan("uniform", {}, triplets, seed=context.seed), mesh)
    features, frozen = open_features(options.features, mesh, context)
    optimizer, schedule, step_of = make_training(options, model, variables["params"], plan, features)
    scorer = None
    if held_out is not None:
        whole = dataclasses.replace(
            sampling, flow=open_record_flow(options.flow, held_out), reverse=0.0, flow_on="frame"
        )
        scorer = ReconstructionScorer(
            model.apply, held_out, whole, mesh=mesh, batch_size=options.plan.batch_size, limit=options.eval_limit
        )
    task = TrainingTask(
        samples=data.TripletCrops(triplets, sampling),
        plan=plan,
        make_step=step_of,
        state=place_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0),
        frozen=frozen,
        meta={
            "model": spec,
            "normalisation": "",
            "flow": {"name": options.flow.name, "options": plain(options.flow.options), **statistics},
            "dataset": dataset.settings,
            "config": context.settings,
        },
        score=(lambda state, after_batch: scorer.scores(state.best_variables, after_batch))
        if scorer and options.plan.evaluate
        else None,
        describe=functools.partial(
            log_step_costs, mesh=mesh, spec=spec, useful=functools.partial(useful_flops, spec), unit=UNIT
        ),
    )
    begin_extension(context, plan, schedule)
    state, report = run_training(task, options.run, options.reading, mesh, name=context.name, folder=context.folder)
    missing = triplets.index.missing()
    report |= {
        "last_learning_rate": last_rate(schedule, plan),
        "triplets": len(triplets),
        "frames_without_neighbours": {"count": len(missing), "first": missing[:20]},
        "flow": task.meta["flow"],
    }
    if scorer is not None:
        report["validation"] = scorer.final(state.best_variables, context.folder / "sheet.png", rows=options.sheet_rows)
    return report


def open_features(options: FeatureOptions | None, mesh: Any, context: Context) -> tuple[Features | None, Any]:
    """Returns (function (variables, frames) -> maps by name, variables on the mesh), or (None, {}) without options.

    options: see `FeatureOptions`; None without perceptual and style losses.
    mesh: of devices.
    context: of the stage.

    Raises UserError for weights that do not fit, and a map that the network does not have.
    """
    if options is None:
        return None, {}
    where = f"{context.name}.features"
    model, features = make_features(options, where)
    variables = first_variables(model, options.init, seed=context.seed, where=f"{where}.init")
    return features, parallel.replicate(variables, mesh)


STAGE = Stage(read, run, training_inputs, warn_of_first_weights, extends=True, program=program)
