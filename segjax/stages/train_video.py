"""Stage "train_video": a network learns from video alone how the next frame follows, for propagating labels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, models, parallel
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.stages import build
from segjax.stages.config import durations
from segjax.stages.config.keys import check_keys, check_numbers
from segjax.stages.run_plan import make_timetable, read_crop
from segjax.stages.train import make_updates
from segjax.stages.training_run import check_training, compilable, place_state, run_steps
from segjax.stages.video_data import (
    batch_spec,
    flow_statistics,
    loader_options,
    make_clips,
    open_batches,
    open_triplets,
)
from segjax.stages.video_validation import Validation
from segjax.training.compiled import CompiledSteps
from segjax.training.video_step import RELEASED, TERMS, make_video_step

KEYS = {
    "kind", "dataset", "frames", "eval_frames", "split", "eval_split", "frame_step", "batch_size", "crop", "reverse",
    "cut_histogram", "flow", "model", "init", "dtype", "remat", "loss", "features", "optimizer", "ema_decay", "mesh",
    "param_rules", "loader", "log_steps", "eval_limit", "sheet_rows", "keep",
    *(f"{name}_{unit}" for name in ("total", "checkpoint", "eval") for unit in durations.UNITS),
}  # fmt: skip
FLOW_KEYS = {"name", "options", "on", "cache_bytes", "measure", "mean", "std"}


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Trains to the end of the schedule, from the newest checkpoint where there is one. Returns the report.

    settings.split, eval_split: of the data set, all frames of them. frames, eval_frames: instead of these, a folder of
    frames or a video of your own. frame_step: see `FrameIndex`, 0 = the smallest that occurs. reverse, cut_histogram:
    see `Clips`. init.checkpoint may be another stage of this run, for fine-tuning.
    flow: {name, options, on, cache_bytes, measure (triples to measure its statistics on), mean, std (instead of that)}.
    loss: weights of `video_step.TERMS`. features: of perceptual and style, {model, init, layers, normalisation}.
    """
    check(settings, where=context.name)
    flow_settings, weights = plain(settings.get("flow", {"name": "dis"})), plain(settings.get("loss", RELEASED))
    mesh = parallel.make_mesh(plain(settings.get("mesh", {"data": -1})))
    if parallel.axis_size(mesh, "space") > 1:
        raise UserError(f"config key {context.name}.mesh: a video network splits the batch only; set space=1.")

    triplets, held_out = (open_triplets(settings, context, held_out=part) for part in (False, True))
    frames = models.VIDEO_MODELS[settings["model"]["name"]].keywords["frames"]
    clips = make_clips(settings, triplets, frames)
    init = build.run_init(settings.get("init", {}), context)
    statistics = flow_statistics(flow_settings, clips, triplets, context, init)
    spec = model_spec(settings, statistics)
    model = build.create_model(spec)
    inputs = (jnp.zeros((1, frames, 64, 64, 3)), jnp.zeros((1, frames - 1, 64, 64, 2)))
    variables = build.first_variables(model, init, seed=context.seed, inputs=inputs, where=f"{context.name}.init")

    table = make_timetable(
        settings, triplets, mesh=mesh, seed=context.seed, cache=context.folder, where=context.name
    )  # fmt: skip
    schedule, optimizer = make_updates(settings["optimizer"], variables["params"], table)
    state = place_state(settings, variables, optimizer, mesh)
    features, frozen = open_features(settings, weights, context, mesh)
    step = make_video_step(
        model.apply, optimizer, schedule, frames=frames, weights=weights, features=features,
        ema_decay=settings.get("ema_decay", 0.0),
    )  # fmt: skip
    spec_of = functools.partial(batch_spec, frames=frames)
    steps = CompiledSteps(lambda bucket: compilable(step, state, spec_of(bucket), mesh, **frozen))
    scorer = Validation(settings, model, clips, held_out, frames, mesh)
    meta = {
        "model": spec,
        "normalisation": "",
        "flow": {**{key: flow_settings.get(key, {}) for key in ("name", "options")}, **statistics},
        "dataset": plain(settings.get("dataset") or context.dataset),
        "config": plain(settings),
    }
    state, told = run_steps(
        settings,
        context,
        table=table,
        state=state,
        steps=steps,
        batch_spec=spec_of,
        batches=functools.partial(open_batches, settings, triplets, clips, table, mesh),
        mesh=mesh,
        meta=meta,
        score=scorer if scorer.every else None,
        names=lambda record: triplets.names[record],
        extra_arrays=frozen,
    )
    missing = triplets.index.missing()
    report = {
        "steps": int(state.step),
        "epochs": table.epochs,
        "parameters": int(sum(np.prod(x.shape) for x in jax.tree.leaves(state.params))),
        "triplets": len(triplets),
        "frames_without_neighbours": {"count": len(missing), "first": missing[:20]},
        "flow": meta["flow"],
        **told,
    }
    if held_out is not None:
        report["validation"] = scorer.final(state, context.folder / "sheet.png")
    return report


def check(settings: Mapping[str, Any], *, where: str) -> None:
    """Raises UserError for settings that no training could be run with; reads no data."""
    check_keys(settings, KEYS, where=where, required=("batch_size", "crop", "model", "optimizer"))
    check_training(settings, where=where)
    check_keys(settings.get("flow", {"name": "dis"}), FLOW_KEYS, where=f"{where}.flow", required=("name",))
    check_keys(settings.get("loss", {}), TERMS, where=f"{where}.loss")
    check_numbers(settings, ("frame_step", "sheet_rows"), where=where, low=0)
    loader_options(settings, where=where)
    if read_crop(settings["crop"], where=f"{where}.crop")[2] != (1.0, 1.0):
        raise UserError(f"config key {where}.crop.scale_range: frames keep their scale; leave it out.")
    choose(models.VIDEO_MODELS, settings["model"].get("name"), where=f"{where}.model.name")


def model_spec(settings: Mapping[str, Any], statistics: Mapping[str, list[float]]) -> dict[str, Any]:
    """What a checkpoint must know to build the network again; it has no classes."""
    dtype, remat = build.compute_dtype(settings.get("dtype", "auto")), settings.get("remat", False)
    spec = build.model_spec(settings["model"], num_classes=0, dtype=dtype, remat=remat)
    for name in ("flow_mean", "flow_std"):
        if name in spec["options"]:
            raise UserError(f"give the flow's statistics as flow.{name[5:]}, not as an option of the model.")
    return {**spec, "options": {**spec["options"], **{f"flow_{name}": value for name, value in statistics.items()}}}


def open_features(settings, weights, context, mesh):
    """(function of (variables, frames), {"frozen": variables}) for perceptual and style losses; (None, {}) without."""
    if not (weights.get("perceptual") or weights.get("style")):
        return None, {}
    where = f"{context.name}.features"
    chosen = settings.get("features", {})
    check_keys(chosen, {"model", "init", "layers", "normalisation"}, where=where, required=("model", "layers"))
    spec = build.model_spec(chosen["model"], num_classes=2, dtype="float32", remat=False)
    model = build.create_model(spec)
    variables = build.first_variables(model, chosen.get("init", {}), seed=context.seed, where=f"{where}.init")
    mean, std = build.normalisation(chosen.get("normalisation", "imagenet"))
    layers = tuple(chosen["layers"])
    images = jnp.zeros((1, 64, 64, 3))
    known = jax.eval_shape(lambda v: model.apply(v, images, train=False).features, variables)
    for layer in layers:
        if layer not in known:
            raise UserError(f"config key {where}.layers: {spec['name']} has no {layer!r}.{did_you_mean(layer, known)}")

    def features(variables, frames):
        maps = model.apply(variables, augment.normalise(frames, mean=mean, std=std), train=False).features
        return {layer: maps[layer] for layer in layers}

    return features, {"frozen": jax.device_put(variables, parallel.replicated(mesh))}
