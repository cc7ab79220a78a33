"""Samples of a video network: three neighbouring frames and the flow between them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from segjax.data.flow import FlowStatistics, RecordFlow
from segjax.data.pipeline import eval_rows, local_rows
from segjax.data.samples import Spec
from segjax.data.scene_cuts import histogram_distance
from segjax.data.sources import Record
from segjax.data.stream import DEFAULT_READING, Reading, Sample, stream_batches
from segjax.data.timeline import Bucket
from segjax.data.video import FrameIndex
from segjax.errors import UserError

FLOW_ON = ("frame", "crop")


class Triplets:
    """The triples of neighbouring frames t - 1, t, t + 1 of a video source, numbered 0 .. n - 1.

    index: of the source's frames.
    records: numbers of the frames (n, 3), by default of all triples that exist.

    names, sizes: of the middle frames.
    Raises UserError if there is no triple.
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
        """Reads the three records, in time order."""
        return [self.index.source[int(record)] for record in self.records[number]]

    def limited(self, count: int | None) -> Triplets:
        """Returns `count` of the triples, spread evenly; all of them for None or 0."""
        if not count or count >= len(self):
            return self
        return Triplets(self.index, self.records[np.arange(count) * len(self) // count])


def measure_flow(triplets: Triplets, flow: RecordFlow, *, count: int = 64, reverse: bool = True) -> FlowStatistics:
    """Measures the flow between neighbours, over `count` triples that are spread evenly.

    reverse: also measures the flow forward in time, which the network sees when time is reversed and when labels are
        propagated backward.
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
class TripletSampling:
    """How a triple becomes a sample.

    flow: optical flow of pairs of records.
    frames: frames that the network sees, f = 3 or the first 2; a training sample has f - 1 flows.
    reverse: probability of reversing time.
    cut_histogram: a triple whose neighbours have a larger colour distance counts as a scene cut and gets weight 0;
        0 = off.
    flow_on: "frame" computes flow on whole frames, which can be remembered; "crop" computes it on crops (published),
        which is less work for large frames that are seen once.

    Raises UserError for an unknown flow_on, and for a reverse that is no probability.
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
        """Returns the crop of a triple and `pairs` flows, each of frame i + 1 into frame i."""
        cut = self.cut_histogram and any(
            histogram_distance(a.image, b.image) > self.cut_histogram for a, b in itertools.pairwise(records)
        )
        if self.flow_on == "crop":
            records = [dataclasses.replace(r, image=np.ascontiguousarray(r.image[rows, columns])) for r in records]
            rows = columns = slice(None)
        # called pair by pair, so that what is remembered does not depend on the caller
        flows = [self.flow([b], [a])[0][rows, columns] for a, b in itertools.pairwise(records[: pairs + 1])]
        return dict(
            images=np.stack([record.image[rows, columns] for record in records]),
            flows=np.stack(flows).astype(np.float32, copy=False),
            weight=np.array(0.0 if cut else 1.0, np.float32),
        )


@dataclasses.dataclass(eq=False)
class TripletCrops:
    """Random crops of triples, the same place in all three frames; implements `samples.Samples`.

    Arrays of a sample, for a crop (h, w) and f = sampling.frames:
        images uint8 (3, h, w, 3)       in the time order shown
        flows float32 (f - 1, h, w, 2)  pixels; pixel (x, y) of frame i + 1 lies at (x + u, y + v) in frame i
        weight float32 ()               0 for a scene cut, else 1
    """

    triplets: Triplets
    sampling: TripletSampling

    def __len__(self) -> int:
        return len(self.triplets)

    @property
    def names(self) -> list[str]:
        """Names of the middle frames."""
        return self.triplets.names

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the frames, int (n, 2)."""
        return self.triplets.sizes

    def check(self, buckets: Iterable[Bucket]) -> None:
        """Raises UserError for a crop that is larger than a frame."""
        for bucket in buckets:
            small = np.flatnonzero((self.sizes < bucket.crop).any(1))
            if len(small):
                h, w = self.sizes[small[0]]
                raise UserError(
                    f"frame {self.names[small[0]]} is {w}x{h}, smaller than the crop of {bucket.crop[1]}x"
                    f"{bucket.crop[0]}; make crop.size (height, width) smaller."
                )

    def spec(self, bucket: Bucket) -> Spec:
        """Returns name -> (shape, dtype) of the arrays of one sample."""
        return {
            "images": ((3, *bucket.crop, 3), np.uint8),
            "flows": ((self.sampling.frames - 1, *bucket.crop, 2), np.float32),
            "weight": ((), np.float32),
        }

    def read(self, record: int, place: np.ndarray, bucket: Bucket, rng: np.random.Generator) -> Sample:
        """Draws the direction of time and a crop, as in `Samples.read`; place is ignored: frames have no classes."""
        records = self.triplets[record]
        if rng.random() < self.sampling.reverse:
            records = records[::-1]
        size = records[0].image.shape[:2]
        starts = [int(rng.integers(0, side - crop + 1)) for side, crop in zip(size, bucket.crop)]
        rows, columns = (slice(start, start + crop) for start, crop in zip(starts, bucket.crop))
        return self.sampling.sample(records, rows, columns, pairs=self.sampling.frames - 1)


class _WholeReader:
    """Whole triples of the rows of one process; arguments as in `eval_triplets`.

    rows: numbers of the triples (m, b) of the m batches, -1 = fills up. stand_in: triple (m,) shown in such a row.
    """

    def __init__(self, triplets: Triplets, sampling: TripletSampling, rows: np.ndarray, stand_in: np.ndarray):
        self.triplets, self.sampling, self.rows, self.stand_in = triplets, sampling, rows, stand_in

    def __call__(self, number: int) -> Sample:
        record, shown = int(self.rows.flat[number]), int(self.stand_in[number // self.rows.shape[1]])
        records = self.triplets[record if record >= 0 else shown]
        sample = self.sampling.sample(records, slice(None), slice(None), pairs=2)
        weight = sample["weight"] * (record >= 0)
        return sample | dict(weight=np.array(weight, np.float32), record=np.array(record, np.int32))


def eval_triplets(
    triplets: Triplets,
    sampling: TripletSampling,
    reading: Reading = DEFAULT_READING,
    *,
    batch_size: int,
    limit: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Sample]:
    """Yields this process's rows of batches that show every whole triple once, in time order.

    Arguments as in `eval_batches`. Arrays, b rows of this process:
        images uint8 (b, 3, h, w, 3), flows float32 (b, 2, h, w, 2)  as in `TripletCrops`, always with 2 flows
        weight float32 (b,)  0 for a scene cut, and for a row that only fills up the batch; else 1
        record int32 (b,)    number of the triple, -1 for a row that only fills up the batch

    Raises UserError for a batch_size that the processes cannot share, and while reading for a damaged frame.
    """
    local = local_rows(batch_size, process_count)
    few = triplets.limited(limit)
    rows, _ = eval_rows(few.sizes, batch_size)
    mine = rows[:, process_index * local : (process_index + 1) * local]
    return stream_batches(_WholeReader(few, sampling, mine, rows[:, 0]), [local] * len(mine), reading)
