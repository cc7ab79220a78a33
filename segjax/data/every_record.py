"""Batches that show every record of a source once, whole or as one crop: all batches are full, and say who counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from segjax.data.pipeline import ImageReader, eval_rows, local_rows
from segjax.data.random import CROP, generator
from segjax.data.samples import ImageCrops
from segjax.data.sources import Source
from segjax.data.stream import Reading, Sample, stream_batches
from segjax.data.timeline import Bucket


@dataclasses.dataclass(frozen=True)
class Rows:
    """The records of every batch, the same in all processes.

    records: int32 (m, b). The last batch of a size is filled up with records that count in other batches.
    counted: bool (m, b), whether a row counts; every record counts once.
    sizes: int32 (m, 2), height and width of the images of each batch.
    """

    records: np.ndarray
    counted: np.ndarray
    sizes: np.ndarray


def full_rows(sizes: np.ndarray, batch_size: int, *, limit: int | None = None) -> Rows:
    """Returns the rows of batches of images of one size.

    sizes: int (n, 2), height and width of the records; batches as in `eval_rows`.
    batch_size: records of a batch; fewer if no size has so many.
    limit: so many records only, spread evenly.
    """
    _, alone = eval_rows(sizes, 1, limit=limit)
    most = max(np.unique(alone, axis=0, return_counts=True)[1], default=1)
    records, shapes = eval_rows(sizes, min(batch_size, int(most)), limit=limit)
    counted = records >= 0
    filled = records.copy()
    for batch in np.flatnonzero(~counted.all(1)):
        same = records[(shapes == shapes[batch]).all(1)]
        filled[batch, ~counted[batch]] = np.resize(same[same >= 0], (~counted[batch]).sum())
    return Rows(filled, counted, shapes)


class CropReader:
    """One crop of each record, drawn by (seed, number of the record); picklable.

    samples: of the source.
    bucket: crop and batch.
    records: int (m, b), of this process.
    seed: of the crops.
    """

    def __init__(self, samples: ImageCrops, bucket: Bucket, records: np.ndarray, seed: int):
        self.samples, self.bucket, self.records, self.seed = samples, bucket, records, seed

    def __call__(self, number: int) -> Sample:
        """Reads one crop, see `every_crop`."""
        record = int(self.records.flat[number])
        drawn = generator(self.seed, CROP, 0, record)
        sample = self.samples.read(record, np.array([-1, -1]), self.bucket, drawn)
        return sample | dict(index=np.array(record, np.int32), epoch=np.array(0, np.int32))


def every_image(
    source: Source, rows: Rows, reading: Reading, *, fill: int = 0, process_index: int = 0, process_count: int = 1
) -> Iterator[Sample]:
    """Yields this process's part of each batch: image uint8 (b, h, w, 3).

    source: the images.
    rows: see `full_rows`.
    reading: how images are read.
    fill: rows to add to each batch, repeated from its first ones.
    process_index, process_count: which rows of each batch are yielded.

    Raises UserError while reading, for a damaged image.
    """
    mine = _mine(rows.records, fill, process_index, process_count)
    for batch in stream_batches(ImageReader(source, mine, rows.sizes), [mine.shape[1]] * len(mine), reading):
        yield {"image": batch["image"]}


def every_crop(
    samples: ImageCrops,
    crop: tuple[int, int],
    rows: Rows,
    reading: Reading,
    *,
    seed: int,
    fill: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Sample]:
    """Yields this process's part of each batch of crops, as `train_batches` does in an epoch that shows all records.

    samples: of the source.
    crop: height and width in pixels.
    rows: see `full_rows`, of records that all have the size of the samples' window.
    seed: of the crops.
    reading, fill, process_index, process_count: as in `every_image`.

    Raises UserError for a wrong range of scales, and while reading for a damaged or unlabelled image.
    """
    mine = _mine(rows.records, fill, process_index, process_count)
    bucket = Bucket(tuple(crop), rows.records.shape[1])
    samples.check([bucket])
    yield from stream_batches(CropReader(samples, bucket, mine, seed), [mine.shape[1]] * len(mine), reading)


def _mine(records: np.ndarray, fill: int, process_index: int, process_count: int) -> np.ndarray:
    records = np.concatenate([records, np.resize(records.T, (fill, len(records))).T], axis=1)
    local = local_rows(records.shape[1], process_count)
    return records[:, process_index * local : (process_index + 1) * local]
