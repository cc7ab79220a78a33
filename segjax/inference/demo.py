"""Demos of a video, a folder of images or a split of a dataset: `segjax demo`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data import Record, Source, open_source
from segjax.data.label_map import LabelMap
from segjax.data.sources import read_label
from segjax.errors import UserError, did_you_mean
from segjax.inference.demo_layout import names_of_runs
from segjax.inference.demo_video import DemoFrame, DemoReport, write_demo
from segjax.inference.labels import Labels
from segjax.inference.network import Network, images_at_once, open_labelling
from segjax.inference.streaming import frame_labeller
from segjax.media.clips import Clip, Images
from segjax.media.masks import find_truths
from segjax.media.progress import progress_bar
from segjax.typing import Array


def clip_frames(
    clip: Clip, truths: dict[object, Path], label_map: LabelMap, *, on_error: Callable[[UserError], None]
) -> Iterator[DemoFrame]:
    """Yields the frames of a video or a folder, with the truth of those that have one.

    clip: see `open_clips`.
    truths: masks, see `find_truths`.
    label_map: of the masks.
    on_error: called for a frame that cannot be read, which is skipped.

    Raises UserError for a mask that cannot be read, or has another size than its frame.
    """
    for frame in clip.frames(on_error=on_error):
        path = truths.get(frame.name if isinstance(clip, Images) else frame.index)
        truth = None if path is None else read_label(path, label_map, frame.image.shape[:2], frame.name)
        yield DemoFrame(frame.name, frame.image, truth)


def source_frames(source: Source, rows: Sequence[int]) -> Iterator[DemoFrame]:
    """Yields some records of a dataset, with their labels; rows: numbers of records."""
    for row in rows:
        record: Record = source[int(row)]
        yield DemoFrame(record.name, record.image, record.label)


def demo_of_clip(
    checkpoints: Sequence[str],
    clip: Clip,
    output: str | Path,
    *,
    labels: str = "",
    label_map: str = "",
    image_prefix: str = "",
    image_suffix: str = "",
    mask_prefix: str = "",
    mask_suffix: str = "",
    fps: float | None = None,
    **options: Any,
) -> tuple[DemoReport, list[str]]:
    """Writes the demo of a video or a folder of images; returns (report, problems with single frames).

    checkpoints: training runs, stages, checkpoints or exported weights, the panels from left to right.
    clip: see `open_clips`.
    output: path of the video.
    labels: folder of masks, "" = none.
    label_map: of the masks, "" = that of the network's training set.
    image_prefix, image_suffix, mask_prefix, mask_suffix: see `find_truths`.
    fps: frames per second, None = those of the video, or 25 for images.
    options: see `_write`.

    Raises UserError as `find_truths`, `open_networks`, `clip_frames`, `_write` and `write_demo` do, and for masks of
    other classes than the networks'.
    """
    of_images = dict(image_prefix=image_prefix, image_suffix=image_suffix)
    of_masks = dict(mask_prefix=mask_prefix, mask_suffix=mask_suffix)
    truths = find_truths(clip, labels, **of_images, **of_masks) if labels else {}
    problems: list[str] = []
    networks = open_networks(checkpoints)
    classes = networks[0].label_map
    reads = _same_classes(LabelMap.open(label_map), classes) if label_map else classes.with_ids()
    frames = clip_frames(clip, truths, reads, on_error=lambda error: problems.append(str(error)))
    fps = fps or (clip.fps if clip.is_video else 25.0)
    options |= dict(names=names_of_runs(checkpoints), count=len(clip), truth=bool(labels), fps=fps)
    return _write(networks, frames, output, **options), problems


def demo_of_split(
    checkpoints: Sequence[str],
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
    """Writes the demo of a split of a dataset, by sequence and frame number, unlabelled frames included.

    checkpoints: training runs, stages, checkpoints or exported weights, the panels from left to right.
    dataset, split, builder_options, data_dir: see `open_source`.
    output: path of the video.
    sequence: name of the only sequence to show, or its beginning; "" = all.
    fps: frames per second, None = 25.
    options: see `_write`.

    Raises UserError as `open_source`, `open_networks`, `_write` and `write_demo` do, for an unknown sequence, and for a
    dataset of other classes than the networks'.
    """
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
    networks = open_networks(checkpoints)
    labelled = bool(index.labelled[rows].any())
    if labelled:
        _same_classes(source.label_map, networks[0].label_map)
    options |= dict(names=names_of_runs(checkpoints), count=len(rows), truth=labelled, fps=fps or 25.0)
    return _write(networks, source_frames(source, rows), output, **options)


def open_networks(checkpoints: Sequence[str]) -> list[Network]:
    """Opens networks of the same classes; checkpoints: see `open_labelling`.

    Raises UserError as `open_labelling` does, and for a network of other classes than the first.
    """
    networks = [open_labelling(checkpoint) for checkpoint in checkpoints]
    first = networks[0].label_map
    for checkpoint, network in zip(checkpoints, networks):
        classes = network.label_map
        if classes.class_names != first.class_names:
            raise UserError(
                f"{checkpoint} labels {_listed(classes)} and {checkpoints[0]} {_listed(first)}; show networks of the "
                "same classes, in the same order, beside each other"
            )
    return networks


def _listed(classes: LabelMap) -> str:
    return f"the {classes.num_classes} classes {', '.join(classes.class_names[:4])}, ..."


def _within(name: str, sequence: str) -> bool:
    """Returns whether a sequence is the requested one or a part of it: stuttgart_00_000000 is part of stuttgart_00."""
    return name == sequence or name.startswith(f"{sequence}_")


def _same_classes(label_map: LabelMap, classes: LabelMap) -> LabelMap:
    """Returns a label map of the truth. Raises UserError if its classes are not those of the network."""
    if label_map.class_names != classes.class_names:
        raise UserError(
            f"the labels have {_listed(label_map)} and the network {_listed(classes)}; give a label map of the "
            "network's classes"
        )
    return label_map


def _write(
    networks: Sequence[Network],
    frames: Iterable[DemoFrame],
    output: str | os.PathLike,
    *,
    names: Sequence[str],
    count: int,
    truth: bool,
    fps: float,
    batch: int | None,
    alpha: float,
    width: int,
    interval: int | str | None = None,
    entropy: bool = False,
    **views: Any,
) -> DemoReport:
    """Writes the demo with a progress bar.

    networks, names: of the same classes; the name of a single one is not shown.
    count: number of frames, for the bar.
    truth, fps, alpha, width: see `write_demo`.
    batch: images at once, see `images_at_once`; with a network that labels video from keyframes, frames are read one by
        one.
    interval: of keyframes, for such networks; None for `keyframes.USUAL_INTERVAL`.
    entropy: whether there is a panel of the entropy.
    views: keyword arguments of `views.predict`.

    Raises UserError as `frame_labeller` does, and for the entropy of a network that labels video from keyframes.
    """
    classes, keyed = networks[0].label_map, any(network.has_keyframes for network in networks)
    runs: list[Callable[[Array], Labels]] = []
    for network in networks:
        # beside a network with keyframes, the interval is not meant for the others
        own = interval if network.has_keyframes or not keyed else None
        frames_of = frame_labeller(network, own, batch, **views)
        if frames_of and entropy:
            raise UserError(f"{network.spec['name']} knows no entropy of frames between keyframes; leave it out.")
        runs.append(frames_of or network.labeller(entropy=entropy, **views))
    with progress_bar("demo", count, unit="frames") as progress:
        return write_demo(
            lambda images: tuple(run(images) for run in runs),
            frames,
            output,
            fps=fps,
            palette=classes.palette,
            class_names=classes.class_names,
            networks=names if len(networks) > 1 else ("prediction",),
            truth=truth,
            batch=1 if keyed else images_at_once(batch),
            alpha=alpha,
            width=width,
            progress=progress,
        )
