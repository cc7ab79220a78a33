"""Labels every Nth frame of a video with a trained network, as masks to inspect, to correct and to propagate."""

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
    """Writes folder/NAME.png, raw ids, for the first frame and each Nth frame after it; returns the label map.

    Masks that exist already are kept.

    checkpoint: training run of a stage of kind "train", or exported weights.
    video: see `open_video`.
    folder: for the masks.
    every: N, in frames.
    batch: frames per call of the network.

    Raises UserError for a checkpoint or a frame that cannot be opened, a frame that the network does not accept, and
    masks that cannot be written.
    """
    network = open_network(checkpoint)
    raw = network.label_map.with_ids()
    names = video.source.names
    missing = [r for r in map(int, video.order[::every]) if not (Path(folder) / f"{names[r]}.png").is_file()]
    chosen = (video.source[record] for record in missing)
    with PngWriter() as pngs:
        for records, labels in predictions(FilledBatches(network.labeller(), batch), same_size(chosen, batch)):
            for record, label in zip(records, labels.ids):
                pngs.write(Path(folder) / f"{record.name}.png", raw.decode(label, record.name))
    return raw
