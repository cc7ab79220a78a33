"""The data of the stage "train_video": triples of frames, the flow between them, and its statistics."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from segjax import data, parallel
from segjax.data.flow import RecordFlow, Remembered
from segjax.data.scene_cuts import CUT_HISTOGRAM
from segjax.data.triplets import Clips, Triplets, measure_flow, train_triplets
from segjax.data.video import FrameIndex, open_frames
from segjax.errors import UserError
from segjax.files import config_hash, plain
from segjax.propagation.motion import open_flow
from segjax.stages import build
from segjax.stages.config.keys import options_of
from segjax.weights.runs import has_checkpoint, load_for_inference

log = logging.getLogger("segjax")


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


def flow_statistics(
    flow_settings: Mapping[str, Any], clips: Clips, triplets: Triplets, context: Any, init: Mapping[str, Any]
) -> dict[str, list[float]]:
    """{"mean", "std"} of the flow, which must stay as they are through a training and what follows it.

    As given, those of the stage's own checkpoint, those of the checkpoint it starts from, or measured (once).
    """
    if flow_settings.get("mean") or flow_settings.get("std"):
        found = {name: list(map(float, flow_settings.get(name) or ())) for name in ("mean", "std")}
        if len(found["mean"]) != 2 or len(found["std"]) != 2 or min(found["std"]) <= 0:
            raise UserError(f"flow.mean and flow.std of {context.name} must both hold 2 numbers, std above 0.")
        return found
    begun = has_checkpoint(context.folder / "checkpoints")
    if begun or init.get("checkpoint"):
        _, _, info = load_for_inference(context.folder if begun else init["checkpoint"])
        if "flow" not in info:
            raise UserError(
                f"{init.get('checkpoint', context.folder)} is no video network; give a stage of kind train_video."
            )
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
