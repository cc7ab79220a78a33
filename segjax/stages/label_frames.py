"""Labels every Nth frame of a video with a trained network, as masks to look at, to correct, and to carry on."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from segjax import inference
from segjax.data import LabelMap
from segjax.inference.frame_batches import FilledBatches, predictions, same_size
from segjax.inference.labelled_video import OneVideo
from segjax.inference.writers import PngWriter
from segjax.stages.predict_clips import load_network


def label_frames(
    checkpoint: str, video: OneVideo, folder: str | os.PathLike, *, every: int, batch: int = 1
) -> LabelMap:
    """Writes folder/NAME.png, raw ids, of the first frame and each Nth after it; returns what the ids mean.

    checkpoint: a run of the stage "train". batch: frames at once. Masks that are there already stay as they are.
    """
    apply_fn, variables, normalise, classes = load_network(checkpoint)
    class_ids = inference.predictor(apply_fn, normalise=normalise)
    raw = classes.with_ids()
    names = video.source.names
    missing = [r for r in map(int, video.order[::every]) if not (Path(folder) / f"{names[r]}.png").is_file()]
    chosen = (video.source[record] for record in missing)
    with PngWriter() as pngs:
        for records, ids in predictions(
            FilledBatches(functools.partial(class_ids, variables), batch), same_size(chosen, batch)
        ):
            for record, label in zip(records, ids):
                pngs.write(Path(folder) / f"{record.name}.png", raw.decode(label, record.name))
    return raw
