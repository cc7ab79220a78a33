"""A video of a trained network at work: the command `segjax demo`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import inference
from segjax.data import LabelMap, open_source
from segjax.errors import UserError, did_you_mean
from segjax.inference.clips import Clip
from segjax.inference.demo import DemoReport, clip_frames, find_truths, source_frames, write_demo
from segjax.inference.progress import progress_bar
from segjax.stages.predict_clips import load_network


def demo_of_clip(
    checkpoint: str,
    clip: Clip,
    output: str | Path,
    *,
    labels: str = "",
    label_map: str = "",
    image_suffix: str = "",
    mask_suffix: str = "",
    fps: float | None = None,
    **options: Any,
) -> tuple[DemoReport, list[str]]:
    """(what was written, what could not be read) for a video or a folder of images.

    labels: folder of masks, "" = none. label_map: of the masks, by default that of the network's training set.
    fps: by default the video's own, 25 for images. options: see `_write`.
    """
    truths = find_truths(clip, labels, image_suffix=image_suffix, mask_suffix=mask_suffix) if labels else {}
    problems: list[str] = []
    network = load_network(checkpoint)
    classes = network[-1]
    reads = _same_classes(LabelMap.open(label_map), classes) if label_map else classes.with_ids()
    frames = clip_frames(clip, truths, reads, on_error=lambda error: problems.append(str(error)))
    fps = fps or (clip.fps if clip.is_video else 25.0)
    return _write(network, frames, output, count=len(clip), truth=bool(labels), fps=fps, **options), problems


def demo_of_split(
    checkpoint: str,
    dataset: str,
    output: str | Path,
    *,
    split: str,
    sequence: str = "",
    builder_options: Mapping[str, Any] | None = None,
    data_dir: str = "",
    fps: float | None = None,
    **options: Any,
) -> DemoReport:
    """The frames of a split of a data set, labelled or not, by sequence and number; sequence: one of them only."""
    source = open_source(
        dataset, split, data_dir=data_dir or None, builder_options=builder_options, labelled_only=False
    )
    index = source.index
    rows = np.lexsort((index.frames, index.sequences))
    if sequence:
        known = sorted(set(map(str, index.sequences)))
        rows = rows[np.array([_within(str(index.sequences[row]), sequence) for row in rows])]
        if not len(rows):
            raise UserError(f"split {split} of {dataset} has no sequence {sequence!r}.{did_you_mean(sequence, known)}")
    network = load_network(checkpoint)
    labelled = bool(index.labelled[rows].any())
    if labelled:
        _same_classes(source.label_map, network[-1])
    return _write(
        network, source_frames(source, rows), output, count=len(rows), truth=labelled, fps=fps or 25.0, **options
    )


def _within(name: str, sequence: str) -> bool:
    """Whether a sequence is the one asked for, or a part of it: stuttgart_00 has the part stuttgart_00_000000."""
    return name == sequence or name.startswith(f"{sequence}_")


def _same_classes(label_map: LabelMap, classes: LabelMap) -> LabelMap:
    if label_map.class_names != classes.class_names:
        raise UserError(
            f"the labels have the {label_map.num_classes} classes {', '.join(label_map.class_names[:4])}, ... and the "
            f"network the {classes.num_classes} classes {', '.join(classes.class_names[:4])}, ...; give a label map of "
            "the network's classes"
        )
    return label_map


def _write(
    network,
    frames,
    output,
    *,
    count: int,
    truth: bool,
    fps: float,
    batch: int | None,
    alpha: float,
    width: int,
    **views,
) -> DemoReport:
    """batch: images at once, None = 1 on CPU and 4 on accelerators. truth, fps, alpha, width: see `write_demo`. views:
    scales, flip, window and overlap of `segjax.inference.predictor`."""
    apply_fn, variables, normalise, classes = network
    class_ids = inference.predictor(apply_fn, normalise=normalise, **views)
    with progress_bar("demo", count, unit="frames") as progress:
        return write_demo(
            functools.partial(class_ids, variables),
            frames,
            output,
            fps=fps,
            palette=classes.palette,
            class_names=classes.class_names,
            truth=truth,
            batch=batch or (1 if jax.default_backend() == "cpu" else 4),
            alpha=alpha,
            width=width,
            progress=progress,
        )
