"""Data of the stage "train_gsvnet": snippets of video, whose last frames have labels."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from segjax import data
from segjax.data import LabelMap
from segjax.data.video import FrameIndex, open_frames
from segjax.errors import UserError
from segjax.stages.config.keys import part_of
from segjax.stages.dataset import Dataset
from segjax.training.snippet_step import LABELS

log = logging.getLogger("segjax")

ORDERS = ("blocks", "mixed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SnippetOptions:
    """The snippets of a training.

    frames: one's own frames, for labels="teacher": a video, or a folder of videos or numbered frames; "" for none.
    split, eval_split: of the dataset, with all frames of its videos; for training, beside `frames`, and held out for
        scores. "" for none.
    frame_step: of the split, see `FrameIndex`; 0 = the smallest that occurs. One's own frames are taken as they come.
    intervals: numbers of frames from the keyframe to the labelled frame.
    order: "blocks": one interval in each epoch, in turns (released). "mixed": another one at each step.
    gradient_steps, labels: see `make_snippet_step`.
    scales: see `SnippetCrops`.
    """

    frames: str = ""
    split: str = "train"
    eval_split: str = "validation"
    frame_step: int = 0
    intervals: Sequence[int] = (1, 2, 3, 4)
    order: str = "blocks"
    gradient_steps: int = 2
    labels: str = "truth"
    scales: Sequence[float] = (1.0,)

    def frames_of(self, epoch: int) -> tuple[int, ...]:
        """Returns the frames of the snippets of an epoch's steps, in turns."""
        counts = tuple(interval + 1 for interval in self.intervals)
        return counts if self.order == "mixed" else (counts[epoch % len(counts)],)


def read_snippets(settings: Mapping[str, Any], where: str) -> SnippetOptions:
    """Reads the keys of a section that choose snippets. Raises UserError for wrong values."""
    snippets = SnippetOptions(**part_of(settings, SnippetOptions))
    if not snippets.intervals or not all(isinstance(n, int) and n >= 1 for n in snippets.intervals):
        raise UserError(f"config key {where}.intervals={snippets.intervals!r} must list whole numbers of 1 or more.")
    if not snippets.scales or not all(isinstance(x, (int, float)) and x > 0 for x in snippets.scales):
        raise UserError(f"config key {where}.scales={snippets.scales!r} must list factors above 0.")
    for name, known in (("order", ORDERS), ("labels", LABELS)):
        if getattr(snippets, name) not in known:
            raise UserError(f"config key {where}.{name}={getattr(snippets, name)!r} must be {' or '.join(known)}.")
    if not (snippets.frames or snippets.split):
        raise UserError(f"config key {where} has neither split nor frames; name what it is trained on.")
    if snippets.frames and snippets.labels == "truth":
        raise UserError(f"config key {where}.frames: a video has no labels; set {where}.labels='teacher'.")
    return snippets


def open_snippets(
    options: SnippetOptions, dataset: Dataset, reading: data.Reading, label_map: LabelMap, *, where: str
) -> data.Snippets | data.JoinedSnippets:
    """Opens the snippets to train on.

    options: see `SnippetOptions`.
    dataset: with the splits.
    reading: with the cache of frames.
    label_map: of the keyframe network.
    where: config key of the stage, for errors.

    Raises UserError for frames that cannot be read, and for classes that are not those of the keyframe network.
    """
    truth, parts = options.labels == "truth", []
    if options.split:
        source = open_split(dataset, options.split, label_map if truth else None, where)
        index = FrameIndex(reading.cached(source), step=options.frame_step or None)
        parts.append(make_snippets(index, options, labelled_only=truth))
    if options.frames:
        index = FrameIndex(reading.cached(open_frames(options.frames)))
        parts.append(make_snippets(index, options, labelled_only=False))
    return parts[0] if len(parts) == 1 else data.JoinedSnippets(parts)


def open_held_out(
    options: SnippetOptions, dataset: Dataset, reading: data.Reading, label_map: LabelMap, *, where: str
) -> data.Snippets | None:
    """Opens the snippets held out for scores; returns None if there are none. Arguments, errors: `open_snippets`."""
    split = options.eval_split
    if not split or (split == "validation" and not dataset.splits.get("validation")):
        return None
    index = FrameIndex(reading.cached(open_split(dataset, split, label_map, where)), step=options.frame_step or None)
    return make_snippets(index, options, labelled_only=True)


def open_split(dataset: Dataset, split: str, label_map: LabelMap | None, where: str) -> data.Source:
    """Opens a split with all its frames.

    label_map: of the keyframe network, None if the labels are not read.
    Raises UserError for other classes.
    """
    source = dataset.open(split, labelled_only=False, frames=True)
    if label_map is not None and tuple(source.class_names) != tuple(label_map.class_names):
        theirs = ", ".join(label_map.class_names)
        raise UserError(
            f"config key {where}.keyframe: the keyframe network has the classes {theirs}, "
            f"and {dataset} has {', '.join(source.class_names)}; train it on this dataset, or set "
            f"{dataset.where}.label_map."
        )
    return source


def make_snippets(index: FrameIndex, options: SnippetOptions, *, labelled_only: bool) -> data.Snippets:
    """Returns the snippets of an index, and logs frames that are skipped. Raises UserError if there is none."""
    snippets = data.Snippets(index, max(options.intervals), labelled_only=labelled_only)
    if snippets.skipped:
        log.info(
            "%d of %d %sframes have no %d frames before them and are skipped, such as %s",
            len(snippets.skipped), len(snippets.skipped) + len(snippets), "labelled " if labelled_only else "",
            snippets.before, snippets.skipped[0],
        )  # fmt: skip
    return snippets
