"""Stage "train_video": a network learns from video alone how the next frame follows, for propagating labels."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, data, models, parallel
from segjax.data.flow import RecordFlow, Remembered
from segjax.data.scene_cuts import CUT_HISTOGRAM
from segjax.data.triplets import Clips, Triplets, eval_triplets, measure_flow, train_triplets
from segjax.data.video import FrameIndex, open_frames
from segjax.errors import UserError, did_you_mean
from segjax.inference.video_scores import frames_sheet, make_scorer, score_frames
from segjax.inference.writers import write_png
from segjax.stages import build
from segjax.stages.motion import find_checkpoint, open_flow
from segjax.stages.settings import check_keys, check_numbers, choose, config_hash, options_of, plain
from segjax.stages.timetable import make_timetable, read_crop
from segjax.stages.train import make_updates
from segjax.stages.training_run import check_training, compilable, place, run_steps
from segjax.training import durations
from segjax.training.buckets import CompiledSteps
from segjax.training.checkpoints import load_for_inference
from segjax.training.video_step import RELEASED, TERMS, make_video_step

log = logging.getLogger("segjax")

KEYS = {
    "kind", "dataset", "frames", "eval_frames", "split", "eval_split", "frame_step", "batch_size", "crop", "reverse",
    "cut_histogram", "flow", "model", "init", "dtype", "remat", "loss", "features", "optimizer", "ema_decay", "mesh",
    "loader", "log_steps", "eval_limit", "sheet_rows", "keep",
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
    init = initial(settings, context)
    statistics = flow_statistics(flow_settings, clips, triplets, context, init)
    spec = model_spec(settings, statistics)
    model = build.create_model(spec)
    inputs = (jnp.zeros((1, frames, 64, 64, 3)), jnp.zeros((1, frames - 1, 64, 64, 2)))
    variables = build.first_variables(model, init, seed=context.seed, inputs=inputs, where=f"{context.name}.init")

    table = make_timetable(
        settings, triplets, mesh=mesh, seed=context.seed, cache=context.folder, where=context.name
    )  # fmt: skip
    schedule, optimizer = make_updates(settings["optimizer"], variables["params"], table)
    state = place(variables, optimizer, ema=settings.get("ema_decay", 0.0) > 0, mesh=mesh)
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


def open_triplets(settings: Mapping[str, Any], context: Any, *, held_out: bool) -> Triplets | None:
    """The triples to train on, or those held out; None where nothing is held out."""
    path = settings.get("eval_frames" if held_out else "frames", "")
    cache = settings.get("loader", {}).get("cache_bytes", 0)
    if path:
        source: Any = open_frames(path)
    elif settings.get("frames"):
        return None  # own training frames, and none to hold out
    else:
        dataset = settings.get("dataset") or context.dataset
        split = settings.get("eval_split", "validation") if held_out else settings.get("split", "train")
        if not split or (held_out and split == "validation" and not dataset.get("validation")):
            return None
        exact = settings.get("flow", {}).get("name") == "exact"
        source = build.open_split(dataset, split, labelled_only=False, flow=exact)
    if cache:
        source = data.CachedSource(source, cache)
    return Triplets(FrameIndex(source, step=settings.get("frame_step") or None))


def make_clips(settings: Mapping[str, Any], triplets: Triplets, frames: int) -> Clips:
    """How triples become samples."""
    flow = settings.get("flow", {"name": "dis"})
    if flow.get("on", "frame") == "crop" and flow["name"] == "exact":
        raise UserError("flow.on='crop' cannot be with the exact flow, which is that of whole frames; use 'frame'.")
    return Clips(
        flow_of(settings, triplets),
        frames=frames,
        reverse=settings.get("reverse", 0.5),
        cut_histogram=settings.get("cut_histogram", CUT_HISTOGRAM),
        flow_on=flow.get("on", "frame"),
    )


def flow_of(settings: Mapping[str, Any], triplets: Triplets) -> RecordFlow:
    """The flow of these frames, remembered where whole frames are looked at: other frames may have the same names."""
    chosen = settings.get("flow", {"name": "dis"})
    flow = open_flow(chosen["name"], plain(chosen.get("options", {})), index=triplets.index)
    if chosen.get("on", "frame") == "frame" and chosen.get("cache_bytes", 0):
        return Remembered(flow, chosen["cache_bytes"])
    return flow


def initial(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """`init`, with a stage of this run as the folder it is in."""
    init = plain(settings.get("init", {}))
    if init.get("checkpoint"):
        init["checkpoint"] = str(find_checkpoint(init["checkpoint"], context.workdir))
    return init


def flow_statistics(
    flow_settings: Mapping[str, Any], clips: Clips, triplets: Triplets, context: Any, init: Mapping[str, Any]
) -> dict[str, list[float]]:
    """{"mean", "std"} of the flow: as given, those of the checkpoint that training starts from, or measured (once)."""
    if flow_settings.get("mean") or flow_settings.get("std"):
        found = {name: list(map(float, flow_settings.get(name) or ())) for name in ("mean", "std")}
        if len(found["mean"]) != 2 or len(found["std"]) != 2 or min(found["std"]) <= 0:
            raise UserError(f"flow.mean and flow.std of {context.name} must both hold 2 numbers, std above 0.")
        return found
    if init.get("checkpoint"):
        _, _, info = load_for_inference(init["checkpoint"])
        if "flow" not in info:
            raise UserError(f"{init['checkpoint']} is no video network; give a stage of kind train_video.")
        return {name: info["flow"][name] for name in ("mean", "std")}
    count, reverse = flow_settings.get("measure", 64), clips.reverse > 0
    path = context.folder / "flow_statistics.json"
    key = config_hash({"flow": flow_settings, "names": triplets.names, "count": count, "reverse": reverse})
    if path.is_file():
        stored = json.loads(path.read_text())
        if stored.get("key") == key:
            return {name: stored[name] for name in ("mean", "std")}
    measured = measure_flow(triplets, clips.flow, count=count, reverse=reverse)
    found = {"mean": list(measured.mean), "std": list(measured.std)}
    log.info("flow of %s: mean %s, standard deviation %s pixels", flow_settings["name"], found["mean"], found["std"])
    if jax.process_index() == 0:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"key": key, **found}) + "\n")
        os.replace(temporary, path)
    return found


def model_spec(settings: Mapping[str, Any], statistics: Mapping[str, list[float]]) -> dict[str, Any]:
    """What a checkpoint must know to build the network again; it has no classes."""
    dtype, remat = build.compute_dtype(settings.get("dtype", "auto")), settings.get("remat", False)
    spec = build.model_spec(settings["model"], num_classes=0, dtype=dtype, remat=remat)
    for name in ("flow_mean", "flow_std"):
        if name in spec["options"]:
            raise UserError(f"give the flow's statistics as flow.{name[5:]}, not as an option of the model.")
    return {**spec, "options": {**spec["options"], **{f"flow_{name}": value for name, value in statistics.items()}}}


def batch_spec(bucket: data.Bucket, *, frames: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of the arrays of a global batch, see `train_triplets`."""
    b, size = bucket.batch, bucket.crop
    return {
        "images": ((b, 3, *size, 3), np.uint8),
        "flows": ((b, frames - 1, *size, 2), np.float32),
        "weight": ((b,), np.float32),
        **{name: ((b,), np.int32) for name in ("index", "epoch", "record")},
    }


def open_batches(settings, triplets, clips, table, mesh, start):
    """(step, this process's rows) from step `start` on."""
    options = loader_options(settings, where="train_video")
    part, parts = parallel.batch_part(mesh)
    return train_triplets(
        triplets, clips, table.plan, table.timeline,
        start_step=start, process_index=part, process_count=parts, **options,
    )  # fmt: skip


def loader_options(settings: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """`loader` as options of `train_triplets`; cache_bytes is of the frames, see `open_triplets`."""
    loader = {key: value for key, value in plain(settings.get("loader", {})).items() if key != "cache_bytes"}
    given = ("triplets", "clips", "plan", "timeline", "start_step", "process_index", "process_count")
    return options_of(loader, train_triplets, where=f"{where}.loader", given=given)


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


class Validation:
    """Scores of the frames that were held out, while training and at the end; every process gets the same."""

    def __init__(self, settings, model, clips, held_out, frames, mesh):
        self._settings, self._held_out, self._mesh = settings, held_out, mesh
        self.every = held_out is not None and durations.find_duration(settings, "eval") is not None
        if held_out is None:
            return
        self._clips = dataclasses.replace(clips, flow=flow_of(settings, held_out), reverse=0.0, flow_on="frame")
        self._scorer = make_scorer(model.apply, frames=frames, mesh=mesh)

    def _score(self, state, show=()):
        part, parts = parallel.batch_part(self._mesh)
        data_parts = parallel.axis_size(self._mesh, "data")
        size = -(-self._settings["batch_size"] // data_parts) * data_parts
        batches = eval_triplets(
            self._held_out, self._clips, batch_size=size, limit=self._settings.get("eval_limit") or None,
            process_index=part, process_count=parts,
        )  # fmt: skip
        return score_frames(self._scorer, state.best_variables, batches, mesh=self._mesh, show=show)

    def __call__(self, state) -> dict[str, float]:
        """The numbers, for the log."""
        return dict(self._score(state).scores)

    def final(self, state, path) -> dict[str, float]:
        """The numbers at the end, and a sheet of pictures in `path`."""
        limited = self._held_out.limited(self._settings.get("eval_limit") or None)
        rows = min(self._settings.get("sheet_rows", 6), len(limited))
        show = np.unique(np.linspace(0, len(limited) - 1, num=rows).astype(int)).tolist() if rows else []
        found = self._score(state, show)
        names = ("network", "copy", "flow")
        values = [found.scores["psnr" if name == "network" else f"psnr_{name}"] for name in names]
        text = ", ".join(f"{name} {value:.2f} dB" for name, value in zip(names, values))
        log.info("%d frames held out: %s", found.frames, text)
        if jax.process_index() == 0 and found.shown:
            picture = frames_sheet(found.shown, lambda record: limited.names[record], heading=text)
            write_png(path, picture)
            log.info("pictures: %s", path)
        return {**{name: round(value, 4) for name, value in found.scores.items()}, "frames": found.frames}
