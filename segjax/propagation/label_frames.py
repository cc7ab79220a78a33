"""Labels every Nth frame of a video with a trained network, as masks to look at, to correct, and to carry on."""

from __future__ import annotations

import os
from pathlib import Path

from segjax.data import LabelMap
from segjax.inference.network import open_network
from segjax.media.frame_batches import FilledBatches, predictions, same_size
from segjax.media.writers import PngWriter
from segjax.propagation.labelled_video import OneVideo


def label_frames(
    checkpoint: str, video: OneVideo, folder: str | os.PathLike, *, every: int, batch: int = 1
) -> LabelMap:
    """Writes folder/NAME.png, raw ids, of the first frame and each Nth after it; returns what the ids mean.

    checkpoint: a run of the stage "train". batch: frames at once. Masks that are there already stay as they are.
    """
    network = open_network(checkpoint)
    raw = network.label_map.with_ids()
    names = video.source.names
    missing = [r for r in map(int, video.order[::every]) if not (Path(folder) / f"{names[r]}.png").is_file()]
    chosen = (video.source[record] for record in missing)
    with PngWriter() as pngs:
        for records, ids in predictions(FilledBatches(network.predictor(), batch), same_size(chosen, batch)):
            for record, label in zip(records, ids):
                pngs.write(Path(folder) / f"{record.name}.png", raw.decode(label, record.name))
    return raw
