"""Batches of training samples and of evaluation images: the rows of one process, the same for any number of them.

Row r of a global batch belongs to process r // (batch / process_count). The rows of a process are thus neighbours, as
`jax.make_array_from_process_local_data` requires over a mesh axis that follows the order of processes.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import threading
from collections.abc import Iterator

import numpy as np

from segjax.data.classes import IGNORE_LABEL
from segjax.data.epoch_plans import Epoch, EpochPlan
from segjax.data.random import CROP, generator
from segjax.data.samples import Samples
from segjax.data.sources import Source
from segjax.data.stream import DEFAULT_READING, Reading, Sample, stream_batches
from segjax.data.timeline import Timeline
from segjax.errors import UserError


class SampleReader:
    """The samples that one process needs for the steps start .. end - 1, numbered from 0; picklable.

    Arguments as in `train_batches`. rows: samples of every step.
    """

    def __init__(
        self,
        samples: Samples,
        plan: EpochPlan,
        timeline: Timeline,
        *,
        start: int,
        end: int,
        process_index: int,
        process_count: int,
    ):
        self.samples, self.plan, self.timeline = samples, plan, timeline
        self.process_index, self.process_count = process_index, process_count
        self.runs = timeline.runs(start, end)
        self._local = [local_rows(run.bucket.batch, process_count) for run in self.runs]
        counts = ((run.end - run.start) * rows for run, rows in zip(self.runs, self._local))
        self._starts = list(itertools.accumulate(counts, initial=0))
        samples.check(timeline.buckets)
        self._start()

    def _start(self) -> None:
        self._epochs: dict[int, Epoch] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def rows(self) -> list[int]:
        """Samples of this process in each step."""
        return [rows for run, rows in zip(self.runs, self._local) for _ in range(run.start, run.end)]

    def __call__(self, number: int) -> Sample:
        """Reads one sample, see `train_batches`."""
        which = bisect.bisect_right(self._starts, number) - 1
        rows = self._local[which]
        step, row = divmod(number - self._starts[which], rows)
        epoch, first, bucket = self.timeline.at(self.runs[which].start + step)
        index = first + self.process_index * rows + row
        records, places, _ = self._epoch(epoch)
        record = int(records[index])
        # a generator of its own for every sample: what is drawn depends on no other sample, process or thread
        sample = self.samples.read(record, places[index], bucket, generator(self.plan.seed, CROP, epoch, index))
        numbers = dict(index=index, epoch=epoch, record=record)
        return sample | {name: np.array(value, np.int32) for name, value in numbers.items()}

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
    samples: Samples,
    plan: EpochPlan,
    timeline: Timeline,
    reading: Reading = DEFAULT_READING,
    start_step: int = 0,
    end_step: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[int, Sample]]:
    """Yields (step, this process's rows of the batch) for the steps start_step .. end_step - 1.

    samples: what is read; the arrays of a batch are those of `batch_spec`.
    plan: which samples an epoch shows, and around which places.
    timeline: which samples of an epoch a step shows, and at which crop.
    reading: how samples are read; it changes neither the samples nor their order.
    end_step: by default the end of the timeline.
    process_index, process_count: which rows of each global batch are yielded.

    One stream serves all steps: it continues across epochs and changes of the crop. A run that starts at any step
    gets what an uninterrupted one would have got. What is drawn for a sample depends on (plan.seed, epoch, index) only.

    Raises UserError at once as `samples.check` does, and for a batch that the processes cannot share. While reading,
    raises it for a damaged or unlabelled record.
    """
    end = timeline.total_steps if end_step is None else end_step
    reader = SampleReader(
        samples, plan, timeline, start=start_step, end=end, process_index=process_index, process_count=process_count
    )
    return _numbered(start_step, stream_batches(reader, reader.rows, reading))


def _numbered(start: int, batches: Iterator[Sample]) -> Iterator[tuple[int, Sample]]:
    with contextlib.closing(batches):  # ends the threads and workers of a stream that is left early
        yield from enumerate(batches, start)


class ImageReader:
    """The images that one process needs for an evaluation, numbered from 0; picklable.

    rows, sizes: see `eval_rows`, the rows of this process only.
    """

    def __init__(self, source: Source, rows: np.ndarray, sizes: np.ndarray):
        self.source, self.rows, self.sizes = source, rows, sizes

    def __call__(self, number: int) -> Sample:
        """Reads one image, see `eval_batches`."""
        batch, row = divmod(number, self.rows.shape[1])
        index, size = int(self.rows[batch, row]), tuple(map(int, self.sizes[batch]))
        image, label = np.zeros((*size, 3), np.uint8), np.full(size, IGNORE_LABEL, np.uint8)
        if index >= 0:
            record = self.source[index]
            if record.image.shape[:2] != size:
                got, said = "x".join(map(str, record.image.shape[1::-1])), "x".join(map(str, size[::-1]))
                raise UserError(f"{record.name} is {got} and not {said} as the dataset says; build the dataset again.")
            image, label = record.image, label if record.label is None else record.label
        weight, number = np.array(index >= 0, np.float32), np.array(index, np.int32)
        return dict(image=image, label=label, weight=weight, record=number)


def eval_batches(
    source: Source,
    reading: Reading = DEFAULT_READING,
    *,
    batch_size: int,
    limit: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Sample]:
    """Yields this process's rows of batches that show every image once; all processes see the same shapes in turn.

    batch_size: images of a global batch. The images of a batch have one size; the last batch of a size is filled up
        with empty rows.
    limit: evaluates only so many images, evenly spread over the source.

    Arrays, b rows of this process:
        image uint8 (b, h, w, 3)
        label uint8 (b, h, w)     train ids, 255 in an image without label
        weight float32 (b,)       0 for an empty row, else 1
        record int32 (b,)         number of the image, -1 for an empty row

    Raises UserError for a batch_size that the processes cannot share, and while reading for a damaged image.
    """
    local = local_rows(batch_size, process_count)
    rows, sizes = eval_rows(source.sizes, batch_size, limit=limit)
    mine = rows[:, process_index * local : (process_index + 1) * local]
    return stream_batches(ImageReader(source, mine, sizes), [local] * len(mine), reading)


def eval_rows(sizes: np.ndarray, batch_size: int, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the records of every batch, int32 (m, batch_size), -1 = empty, and the size of each batch, int32 (m, 2).

    sizes: int (n, 2) height and width of the records. Batches come in the order in which their size first occurs.
    """
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
    """Returns the rows of a global batch that each process holds. Raises UserError if they cannot be equal."""
    if batch < 1 or batch % process_count:
        raise UserError(
            f"batch_size={batch} must be a multiple of the {process_count} processes, so that each holds as many rows."
        )
    return batch // process_count
