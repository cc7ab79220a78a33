"""Training and evaluation samples of a video network: three neighbouring frames and the flow between them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from segjax.data.flow import FlowStatistics, RecordFlow
from segjax.data.pipeline import CropReader, batches_of, eval_rows, local_rows
from segjax.data.scene_cuts import histogram_distance
from segjax.data.sources import Record
from segjax.data.stream import Reading, Sample, stack, stream
from segjax.data.timeline import Bucket, Timeline
from segjax.data.video import FrameIndex
from segjax.errors import UserError

FLOW_ON = ("frame", "crop")


class Triplets:
    """The triples of neighbouring frames t - 1, t, t + 1 of a video source, numbered 0 .. n - 1.

    index: of the source's frames. records: their numbers (n, 3), by default of all triples there are.
    names, sizes: of the middle frames, for reports and for the pipeline.
    Raises UserError when there is none.
    """

    def __init__(self, index: FrameIndex, records: np.ndarray | None = None):
        self.index = index
        self.records = index.groups((-1, 0, 1)) if records is None else records
        if not len(self.records):
            raise UserError(
                f"no frame has a neighbour on both sides {index.step} frame numbers away, so there is no video to "
                "learn from; use a split with unlabelled frames, or set frame_step."
            )
        middle = self.records[:, 1]
        self.names = [str(index.table.names[record]) for record in middle]
        self.sizes = np.asarray(index.table.sizes)[middle]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> list[Record]:
        """The three records, in time order."""
        return [self.index.source[int(record)] for record in self.records[number]]

    def limited(self, count: int | None) -> Triplets:
        """So many triples only, spread evenly; None for all."""
        if not count or count >= len(self):
            return self
        return Triplets(self.index, self.records[np.arange(count) * len(self) // count])


def measure_flow(triplets: Triplets, flow: RecordFlow, *, count: int = 64, reverse: bool = True) -> FlowStatistics:
    """Statistics of the flow between neighbours, over `count` triples that are spread evenly.

    reverse: of the flow forward in time too, which time reversal and backward propagation give the network.
    """
    statistics = FlowStatistics()
    few = triplets.limited(count)
    for number in range(len(few)):
        _, frame, later = few[number]
        statistics.add(flow([later], [frame]))
        if reverse:
            statistics.add(flow([frame], [later]))
    return statistics


@dataclasses.dataclass(frozen=True)
class Clips:
    """How a triple becomes a sample.

    flow: of pairs of records. frames: what the network looks at, 3 or the first 2 (flows has one fewer).
    reverse: probability of turning time round. cut_histogram: triples with a larger colour distance between neighbours
    count as a cut of scenes and get weight 0; 0 = off. flow_on: "frame" computes flow on whole frames, which can be
    remembered; "crop" on crops (published), which is less work for large frames seen once.
    """

    flow: RecordFlow
    frames: int = 3
    reverse: float = 0.5
    cut_histogram: float = 0.0
    flow_on: str = "frame"

    def __post_init__(self):
        if self.flow_on not in FLOW_ON:
            raise UserError(f"flow.on={self.flow_on!r} is not known; give {' or '.join(FLOW_ON)}.")
        if not 0 <= self.reverse <= 1:
            raise UserError(f"reverse={self.reverse} must be a probability, from 0 to 1.")

    def sample(self, records: list[Record], rows: slice, columns: slice, *, pairs: int) -> Sample:
        """The crop of a triple and `pairs` flows, of frame i + 1 into frame i."""
        cut = self.cut_histogram and any(
            histogram_distance(a.image, b.image) > self.cut_histogram for a, b in itertools.pairwise(records)
        )
        if self.flow_on == "crop":
            records = [dataclasses.replace(r, image=np.ascontiguousarray(r.image[rows, columns])) for r in records]
            rows = columns = slice(None)
        # called pair by pair, so that what is remembered does not depend on who asks
        flows = [self.flow([b], [a])[0][rows, columns] for a, b in itertools.pairwise(records[: pairs + 1])]
        return dict(
            images=np.stack([record.image[rows, columns] for record in records]),
            flows=np.stack(flows).astype(np.float32, copy=False),
            weight=np.array(0.0 if cut else 1.0, np.float32),
        )


class TripletReader(CropReader):
    """Reads random crops of triples; arguments as CropReader, with Triplets as source."""

    clips: Clips

    def _read(self, record: int, centroid: np.ndarray, bucket: Bucket, rng: np.random.Generator) -> Sample:
        records = self.source[record]
        if rng.random() < self.clips.reverse:
            records = records[::-1]
        size = records[0].image.shape[:2]
        starts = [int(rng.integers(0, side - crop + 1)) for side, crop in zip(size, bucket.crop)]
        rows, columns = (slice(start, start + crop) for start, crop in zip(starts, bucket.crop))
        return self.clips.sample(records, rows, columns, pairs=self.clips.frames - 1)


def train_triplets(
    triplets: Triplets,
    clips: Clips,
    plan,
    timeline: Timeline,
    *,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int | None = None,
    prefetch: int = 2,
) -> Iterator[tuple[int, Sample]]:
    """Yields (step, this process's rows) from start_step on, a pure function of (plan.seed, step); see `train_batches`.

    Arrays, b rows, f = clips.frames: images uint8 (b, 3, h, w, 3) in the time order shown, flows float32
    (b, f - 1, h, w, 2), weight float32 (b,), and index, epoch, record (number of the triple) int32 (b,).
    Raises UserError when a crop is larger than a frame.
    """
    for bucket in timeline.buckets:
        small = np.flatnonzero((triplets.sizes < bucket.crop).any(1))
        if len(small):
            h, w = triplets.sizes[small[0]]
            raise UserError(
                f"frame {triplets.names[small[0]]} is {w}x{h}, smaller than the crop of {bucket.crop[1]}x"
                f"{bucket.crop[0]}; make crop.size (height, width) smaller."
            )
    reading = Reading(num_workers, num_threads, prefetch)
    reader = TripletReader(
        triplets, plan, timeline, start=start_step, end=timeline.total_steps, scale_range=(1.0, 1.0),
        process_index=process_index, process_count=process_count,
    )  # fmt: skip
    reader.clips = clips
    return batches_of(reader, reading)


class _WholeReader:
    """Whole triples of the rows of one process, see eval_triplets."""

    def __init__(self, triplets: Triplets, clips: Clips, rows: np.ndarray, stand_in: np.ndarray):
        self.triplets, self.clips, self.rows, self.stand_in = triplets, clips, rows, stand_in

    def __len__(self) -> int:
        return self.rows.size

    def __call__(self, number: int) -> Sample:
        record, shown = int(self.rows.flat[number]), int(self.stand_in[number // self.rows.shape[1]])
        sample = self.clips.sample(self.triplets[record if record >= 0 else shown], slice(None), slice(None), pairs=2)
        weight = sample["weight"] * (record >= 0)
        return sample | dict(weight=np.array(weight, np.float32), record=np.array(record, np.int32))


def eval_triplets(
    triplets: Triplets,
    clips: Clips,
    *,
    batch_size: int,
    limit: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
) -> Iterator[Sample]:
    """Yields this process's rows of whole triples, each once: images, flows (always 2), weight (0 = a row that fills up
    the batch, or a cut of scenes) and record (-1 = fills up) as in train_triplets."""
    local = local_rows(batch_size, process_count)
    few = triplets.limited(limit)
    rows, _ = eval_rows(few.sizes, batch_size)
    mine = rows[:, process_index * local : (process_index + 1) * local]
    samples = stream(
        _WholeReader(few, clips, mine, rows[:, 0]), mine.size, Reading(num_threads=num_threads), batch=local
    )
    try:
        for _ in range(len(mine)):
            yield stack(list(itertools.islice(samples, local)))
    finally:
        samples.close()
