"""Batches of training crops and of evaluation images: the rows of one process, the same samples for any number of them.

Row r of a global batch goes to process r // (batch / process_count), so the rows of a process are neighbours, as
`jax.make_array_from_process_local_data` wants them over a mesh axis that follows the order of processes.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Iterator

import numpy as np

from segjax.data.classes import IGNORE_LABEL
from segjax.data.geometry import Span, cut, place, window_size
from segjax.data.plans import Epoch, EpochPlan
from segjax.data.random import CROP, generator
from segjax.data.sources import Record, Source
from segjax.data.stream import Reading, Sample, stack, stream
from segjax.data.timeline import Bucket, Timeline
from segjax.errors import UserError


class CropReader:
    """Reads the samples that one process needs for steps start .. end - 1, numbered from 0; picklable.

    Arguments as in `train_batches`.
    """

    def __init__(
        self,
        source: Source,
        plan: EpochPlan,
        timeline: Timeline,
        *,
        start: int,
        end: int,
        scale_range: tuple[float, float],
        process_index: int,
        process_count: int,
    ):
        self.source, self.plan, self.timeline, self.scale_range = source, plan, timeline, scale_range
        self.process_index, self.process_count = process_index, process_count
        self.runs = timeline.runs(start, end)
        local = [local_rows(run.bucket.batch, process_count) for run in self.runs]
        counts = ((run.end - run.start) * rows for run, rows in zip(self.runs, local))
        self._starts = list(itertools.accumulate(counts, initial=0))
        self._windows = {run.bucket: window_size(run.bucket.crop, scale_range, source.sizes) for run in self.runs}
        self._start()

    def _start(self) -> None:
        self._epochs: dict[int, Epoch] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def __call__(self, number: int) -> Sample:
        """One sample, see `train_batches`."""
        which = bisect.bisect_right(self._starts, number) - 1
        rows = self.runs[which].bucket.batch // self.process_count
        step, row = divmod(number - self._starts[which], rows)
        epoch, first, bucket = self.timeline.at(self.runs[which].start + step)
        index = first + self.process_index * rows + row
        records, places, _ = self._epoch(epoch)
        record = int(records[index])
        sample = self._read(record, places[index], bucket, generator(self.plan.seed, CROP, epoch, index))
        numbers = dict(index=index, epoch=epoch, record=record)
        return sample | {name: np.array(value, np.int32) for name, value in numbers.items()}

    def _read(self, record: int, centroid: np.ndarray, bucket: Bucket, rng: np.random.Generator) -> Sample:
        return read_crop(
            labelled(self.source[record]),
            crop=bucket.crop,
            window=self._windows[bucket],
            scale_range=self.scale_range,
            centroid=None if centroid[0] < 0 else (int(centroid[0]), int(centroid[1])),
            rng=rng,
        )

    def _epoch(self, epoch: int) -> Epoch:
        with self._lock:
            if epoch not in self._epochs:
                for old in sorted(self._epochs)[:-1]:  # threads may still read the epoch before
                    del self._epochs[old]
                self._epochs[epoch] = self.plan.build(epoch)
            return self._epochs[epoch]

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_epochs")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._start()


def train_batches(
    source: Source,
    plan: EpochPlan,
    timeline: Timeline,
    *,
    start_step: int = 0,
    end_step: int | None = None,
    scale_range: tuple[float, float] = (1.0, 1.0),
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int | None = None,
    prefetch: int = 2,
    cache_bytes: int = 0,
) -> Iterator[tuple[int, Sample]]:
    """Yields (step, this process's rows) for the steps start_step .. end_step - 1 (by default the last).

    One pipeline serves all steps: it runs on across epochs and changes of the crop. Any start gives what an
    uninterrupted run would have given. scale_range: images are enlarged by a uniform factor in it.
    num_workers, num_threads, prefetch, cache_bytes: see `Reading`.

    Arrays, b rows of this process, window (H, W) of `window_size`:
        image uint8 (b, H, W, 3)  part of the source image, 0 right and below where the image is smaller
        label uint8 (b, H, W)     train ids, 255 there
        extent float32 (b, 4)     y0, x0, y1, x1 of the image's pixels in the window, pixel edges
        box float32 (b, 4)        y0, x0, y1, x1 of the crop in the window; where it leaves the extent is padding
        index, epoch, record int32 (b,)  position in the epoch, the epoch, number of the record
    Scale and place of a crop depend on (plan.seed, epoch, index) alone.

    Raises UserError for settings that cannot be, at once; while reading, for what is wrong with a record.
    """
    reading = Reading(num_workers, num_threads, prefetch, cache_bytes)
    end = timeline.total_steps if end_step is None else end_step
    reader = CropReader(
        reading.cached(source), plan, timeline, start=start_step, end=end, scale_range=tuple(scale_range),
        process_index=process_index, process_count=process_count,
    )  # fmt: skip
    return batches_of(reader, reading)


def batches_of(reader: CropReader, reading: Reading) -> Iterator[tuple[int, Sample]]:
    """Yields (step, this process's rows) of a reader's steps."""
    if not reader.runs:
        return
    largest = max(run.bucket.batch for run in reader.runs) // reader.process_count
    samples = stream(reader, len(reader), reading, batch=largest)
    try:
        for run in reader.runs:
            rows = run.bucket.batch // reader.process_count
            for step in range(run.start, run.end):
                yield step, stack(list(itertools.islice(samples, rows)))
    finally:
        samples.close()


def read_crop(
    record: Record,
    *,
    crop: tuple[int, int],
    window: tuple[int, int],
    scale_range: tuple[float, float],
    centroid: tuple[int, int] | None,
    rng: np.random.Generator,
) -> Sample:
    """Draws a crop of a record and cuts its window: image, label, extent and box of one sample, see `train_batches`."""
    spans = draw_crop(
        record.image.shape[:2], crop=crop, window=window, scale_range=scale_range, centroid=centroid, rng=rng
    )
    start = (spans[0].start, spans[1].start)
    extent = [min(side - first, size) for side, first, size in zip(record.image.shape, start, window)]
    return dict(
        image=cut(record.image, start, window, fill=0),
        label=cut(record.label, start, window, fill=IGNORE_LABEL),
        extent=np.array([0, 0, *extent], np.float32),
        box=np.array([spans[0].low, spans[1].low, spans[0].high, spans[1].high], np.float32),
    )


def draw_crop(
    size: tuple[int, int],
    *,
    crop: tuple[int, int],
    window: tuple[int, int],
    scale_range: tuple[float, float],
    centroid: tuple[int, int] | None,
    rng: np.random.Generator,
) -> tuple[Span, Span]:
    """Where a crop and its window lie in an image of a size (h, w): rows, columns."""
    scale = rng.uniform(*scale_range)
    rows, columns = (
        place(rng, side=size[axis], crop=crop[axis], scale=scale, window=window[axis], centroid=c)
        for axis, c in enumerate(centroid or (None, None))
    )
    return rows, columns


def labelled(record: Record) -> Record:
    """The record; UserError when it has no label, which would be trained on in vain."""
    if record.label is None:
        raise UserError(f"{record.name} has no label to train on; open the split with labelled_only=True.")
    return record


class ImageReader:
    """Reads the images that one process needs for an evaluation, numbered from 0; picklable. Rows: see `eval_rows`."""

    def __init__(self, source: Source, rows: np.ndarray, sizes: np.ndarray):
        self.source, self.rows, self.sizes = source, rows, sizes

    def __len__(self) -> int:
        return self.rows.size

    def __call__(self, number: int) -> Sample:
        """One sample, see `eval_batches`."""
        batch, row = divmod(number, self.rows.shape[1])
        index, size = int(self.rows[batch, row]), tuple(map(int, self.sizes[batch]))
        image, label = np.zeros((*size, 3), np.uint8), np.full(size, IGNORE_LABEL, np.uint8)
        if index >= 0:
            record = self.source[index]
            if record.image.shape[:2] != size:
                got, said = "x".join(map(str, record.image.shape[1::-1])), "x".join(map(str, size[::-1]))
                raise UserError(
                    f"{record.name} is {got} and not {said} as the data set says; build the data set again."
                )
            image, label = record.image, label if record.label is None else record.label
        weight, number = np.array(index >= 0, np.float32), np.array(index, np.int32)
        return dict(image=image, label=label, weight=weight, record=number)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    limit: int | None = None,
    num_workers: int = 0,
    num_threads: int | None = None,
    prefetch: int = 2,
    cache_bytes: int = 0,
) -> Iterator[Sample]:
    """Yields this process's rows of batches that show every image once; all processes see the same shapes in turn.

    batch_size: global. The images of a batch have one size, and only its last batch is filled up with empty rows.
    limit: evaluate so many images only, evenly spread over the source.

    Arrays: image uint8 (b, h, w, 3), label uint8 (b, h, w) (255 where an image is not labelled), weight float32 (b,)
    (0 = an empty row, else 1), record int32 (b,) (-1 = an empty row).
    """
    reading = Reading(num_workers, num_threads, prefetch, cache_bytes)
    local = local_rows(batch_size, process_count)
    rows, sizes = eval_rows(source.sizes, batch_size, limit=limit)
    mine = rows[:, process_index * local : (process_index + 1) * local]
    return _eval_batches(ImageReader(reading.cached(source), mine, sizes), reading, local)


def _eval_batches(reader: ImageReader, reading: Reading, local: int) -> Iterator[Sample]:
    samples = stream(reader, len(reader), reading, batch=local)
    try:
        for _ in range(len(reader.rows)):
            yield stack(list(itertools.islice(samples, local)))
    finally:
        samples.close()


def eval_rows(sizes: np.ndarray, batch_size: int, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Records of every batch (m, batch_size), -1 = empty, and its size (m, 2); sizes in order of appearance."""
    sizes = np.asarray(sizes).reshape(-1, 2)
    count = len(sizes) if limit is None else min(limit, len(sizes))
    chosen = np.arange(count) * len(sizes) // max(count, 1)
    groups: dict[tuple[int, ...], list[int]] = {}
    for record in chosen:
        groups.setdefault(tuple(sizes[record]), []).append(int(record))
    rows, shapes = [], []
    for size, records in groups.items():
        records += [-1] * (-len(records) % batch_size)
        rows += [records[i : i + batch_size] for i in range(0, len(records), batch_size)]
        shapes += [size] * (len(records) // batch_size)
    return np.array(rows, np.int32).reshape(-1, batch_size), np.array(shapes, np.int32).reshape(-1, 2)


def local_rows(batch: int, process_count: int) -> int:
    """Rows of a global batch that each process holds; UserError where they cannot be equal."""
    if batch < 1 or batch % process_count:
        raise UserError(
            f"batch_size={batch} must be a multiple of the {process_count} processes, so that each holds as many rows."
        )
    return batch // process_count
