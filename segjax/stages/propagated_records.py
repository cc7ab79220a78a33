"""What the stage "propagate" does for a group of labelled frames: propagates, scores and encodes their labels."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax import data, metrics
from segjax.data.chains import Chain, FrameTable
from segjax.data.image_files import encode_png
from segjax.data.label_map import LabelMap
from segjax.data.record_shards import Examples, RecordShards
from segjax.data.sources import Record
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.propagation.label_shift import shift_label
from segjax.propagation.propagator import Propagated, Propagator
from segjax.propagation.report import summarise


@dataclasses.dataclass(frozen=True)
class Carried:
    """Result of a group of chains.

    chains: cut at changes of scene.
    frames: with propagated labels.
    """

    chains: Sequence[Chain]
    frames: Sequence[Propagated]

    def __len__(self) -> int:
        return len(self.frames)


@dataclasses.dataclass(frozen=True)
class Work:
    """The work that `write_records` does per group of chains.

    shards: that are written.
    source: of the labelled and the neighbouring frames.
    propagator: of labels.
    tag: provenance that all records share.
    label_shift: pixels; moves the written labels by smooth random fields, see `shift_label`; 0 = off.
    score: whether the labels are compared with the true ones of their frames, where the dataset has them.
    """

    shards: RecordShards
    source: data.TfdsSource
    propagator: Propagator
    tag: Mapping[str, str]
    label_shift: float = 0.0
    score: bool = False

    def carry(self, chains: Sequence[Chain]) -> Carried:
        """Propagates the labels of a group of chains. Raises UserError as the propagator does."""

        def read_records(records: Sequence[int]) -> dict[int, Record]:
            return dict(zip(records, ordered_map(self.source.__getitem__, records)))

        chains, frames = self.propagator(chains, read_records)
        if self.label_shift:
            move = functools.partial(shift_label, pixels=self.label_shift)
            frames = [dataclasses.replace(one, label=move(one.label, key=one.real.name)) for one in frames]
        return Carried(chains, frames)

    def encode(self, carried: Carried) -> tuple[Examples, dict[str, Any]]:
        """Returns (mode -> records, summary of the shard)."""
        index, examples = self.source.index, {}
        for mode in self.shards.splits:
            encode = functools.partial(example, mode=mode, index=index, label_map=self.shards.label_map, tag=self.tag)
            examples[mode] = list(ordered_map(encode, carried.frames))
        steps = [one.chain.direction * one.step for one in carried.frames]
        note = {**summarise(carried.chains, carried.frames, index), "steps": steps}
        if self.score:
            note["scores"] = compare(carried.frames, self.source.num_classes)
        return examples, note


def compare(frames: Sequence[Propagated], num_classes: int) -> dict[str, Any]:
    """Returns signed step -> {"matrix": confusion matrix (k, k) as lists, row = truth, "pixels": with a true label}.

    Pixels that the propagation ignores are in no matrix. Frames without true label do not count.
    """
    k, found = num_classes, {}
    for one in frames:
        if (truth := one.real.label) is None:
            continue
        known = truth < k
        both = known & (one.label < k)
        cells = np.bincount(truth[both].astype(np.intp) * k + one.label[both], minlength=k * k)
        step = found.setdefault(
            f"{one.chain.direction * one.step:+d}", {"matrix": np.zeros(k * k, np.int64), "pixels": 0}
        )
        step["matrix"] += cells
        step["pixels"] += int(known.sum())
    return {step: dict(one, matrix=one["matrix"].reshape(k, k).tolist()) for step, one in found.items()}


def quality(notes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the mIoU of the written labels, 0..1, and the share of pixels that have one, in all and by signed step.

    notes: of the shards, see `compare`.
    Raises UserError if no frame has a true label.
    """
    matrices, pixels = {}, collections.Counter()
    for note in notes:
        for step, one in note["scores"].items():
            matrices[step] = matrices.get(step, 0) + np.array(one["matrix"], np.int64)
            pixels[step] += one["pixels"]
    if not matrices:
        raise UserError("score=True needs true labels of the frames that labels are propagated to, and there are none.")

    def numbers(matrix: np.ndarray, count: int) -> dict[str, float]:
        return {"miou": round(metrics.iou_scores(matrix)["miou"], 6), "kept": round(int(matrix.sum()) / count, 6)}

    by_step = {step: numbers(matrices[step], pixels[step]) for step in sorted(matrices, key=int)}
    return {**numbers(sum(matrices.values()), sum(pixels.values())), "by_step": by_step}


def example(
    one: Propagated, mode: str, index: FrameTable, label_map: LabelMap, tag: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the record of a frame with a propagated label.

    one: the frame.
    mode: "jp" = with the propagated image, "lp" = with the real one (VPLR, section 3.2).
    index: of the source's frames.
    label_map: of the written dataset.
    tag: provenance that all records share.
    """
    origin = one.chain.record
    signed = one.chain.direction * one.step
    image = one.image if mode == "jp" else one.real.image
    return {
        "image": encode_png(image),
        "label": encode_png(label_map.decode(one.label, one.real.name)),
        "name": f"{index.names[origin]}{signed:+d}",
        "sequence": str(index.sequences[origin]),
        "frame": int(one.real.frame),
        "height": image.shape[0],
        "width": image.shape[1],
        "labelled": True,
        "source_name": str(index.names[origin]),
        "source_frame": int(index.frames[origin]),
        "step": one.step,
        "direction": one.chain.direction,
        "mode": mode,
        **tag,
    }
