"""Data of the stage "train_video": triples of frames, the optical flow between them, and its statistics."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax

from segjax import data
from segjax.data.flow import RecordFlow, Remembered
from segjax.data.scene_cuts import CUT_HISTOGRAM
from segjax.data.triplets import Triplets, TripletSampling, measure_flow
from segjax.data.video import FrameIndex, open_frames
from segjax.errors import UserError
from segjax.files import config_hash, read_note, write_note
from segjax.propagation.motion import open_flow
from segjax.stages.config.keys import options_of
from segjax.stages.dataset import Dataset
from segjax.stages.stage import Context
from segjax.training.start import Init
from segjax.weights.runs import has_checkpoint, load_for_inference

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """The section `flow`.

    name, options: see `propagation.motion.open_flow`.
    on: see `TripletSampling`.
    cache_bytes: memory for the flow of whole frames.
    measure: number of triples on which the statistics are measured.
    mean, std: (u, v) in pixels, the statistics if they are given; () = measured.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    on: str = "frame"
    cache_bytes: int = 0
    measure: int = 64
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDataOptions:
    """The frames on which a video network is trained and scored.

    frames, eval_frames: a folder of frames or a video, instead of a split; "" for none.
    split: of the dataset, all frames; for training.
    eval_split: of the dataset, all frames; held out for scores.
    frame_step: see `FrameIndex`, 0 = the smallest that occurs.
    reverse, cut_histogram: see `TripletSampling`.
    """

    frames: str = ""
    eval_frames: str = ""
    split: str = "train"
    eval_split: str = "validation"
    frame_step: int = 0
    reverse: float = 0.5
    cut_histogram: float = CUT_HISTOGRAM


def read_flow(settings: Mapping[str, Any], where: str) -> FlowOptions:
    """Reads a section `flow`. Raises UserError for unknown keys, incomplete statistics, and exact flow on crops."""
    options = FlowOptions(**options_of(settings, FlowOptions, where=where))
    mean, std = options.mean or (), options.std or ()
    if (mean or std) and (len(mean) != 2 or len(std) != 2 or min(std) <= 0):
        raise UserError(f"flow.mean and flow.std of {where.rpartition('.')[0]} must both hold 2 numbers, std above 0.")
    if options.on == "crop" and options.name == "exact":
        raise UserError("flow.on='crop' cannot be with the exact flow, which is that of whole frames; use 'frame'.")
    return options


def open_triplets(
    options: VideoDataOptions, flow: FlowOptions, dataset: Dataset, reading: data.Reading, *, held_out: bool
) -> Triplets | None:
    """Opens the triples to train on, or those held out; returns None if none are held out.

    options: see `VideoDataOptions`.
    dataset: with the splits.
    reading: with the cache of frames.
    held_out: whether to open the held-out triples.

    Raises UserError for frames that cannot be read.
    """
    path = options.eval_frames if held_out else options.frames
    if path:
        source: Any = open_frames(path)
    elif options.frames:
        return None  # frames of one's own, and none held out: the dataset's frames show something else
    else:
        split = options.eval_split if held_out else options.split
        if not split or (held_out and split == "validation" and not dataset.splits.get("validation")):
            return None
        fields = ("flow",) if flow.name == "exact" else ()
        source = dataset.open(split, labelled_only=False, fields=fields, frames=True)
    return Triplets(FrameIndex(reading.cached(source), step=options.frame_step or None))


def open_record_flow(options: FlowOptions, triplets: Triplets) -> RecordFlow:
    """Opens the flow between the frames of triples, with a cache if it is that of whole frames.

    Each source needs its own: the cache's keys are names, which frames of another source may have too.
    """
    flow = open_flow(options.name, options.options, index=triplets.index)
    return Remembered(flow, options.cache_bytes) if options.on == "frame" and options.cache_bytes else flow


def flow_statistics(
    options: FlowOptions, sampling: TripletSampling, triplets: Triplets, context: Context, init: Init
) -> dict[str, list[float]]:
    """Returns {"mean", "std"} of the flow, (u, v) in pixels each.

    The network divides by them, so they stay the same in a resumed training, in fine-tuning and in propagation. The
    first that exist are returned: those given, those of the stage's own checkpoint, those of the checkpoint it starts
    from, or those measured once.

    options: see `FlowSettings`.
    sampling: how triples become samples.
    triplets: of the training.
    context: of the stage.
    init: first weights of the network.

    Raises UserError for a checkpoint that is not of a video network.
    """
    if options.mean:
        return {"mean": list(map(float, options.mean)), "std": list(map(float, options.std))}
    begun = has_checkpoint(context.folder / "checkpoints")
    if begun or init.checkpoint:
        _, _, info = load_for_inference(context.folder if begun else init.checkpoint)
        if "flow" not in info:
            raise UserError(
                f"{init.checkpoint or context.folder} is no video network; give a stage of kind train_video."
            )
        return {name: info["flow"][name] for name in ("mean", "std")}
    count, reverse = options.measure, sampling.reverse > 0
    path = context.folder / "flow_statistics.json"
    settings = context.settings.get("flow", {"name": "dis"})
    resize = getattr(triplets.index.source, "resize", None)
    resized = {"resize": str(resize)} if resize else {}
    key = config_hash({"flow": settings, "names": triplets.names, "count": count, "reverse": reverse, **resized})
    if (stored := read_note(path)) and stored["key"] == key:
        return {name: stored[name] for name in ("mean", "std")}
    measured = measure_flow(triplets, sampling.flow, count=count, reverse=reverse)
    found = {"mean": list(measured.mean), "std": list(measured.std)}
    log.info("flow of %s: mean %s, standard deviation %s pixels", options.name, found["mean"], found["std"])
    if jax.process_index() == 0:
        write_note(path, {"key": key, **found})
    return found
