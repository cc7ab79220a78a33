"""Samples of video for networks that label it: neighbouring frames, of which the last one has a label."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from segjax.data.classes import IGNORE_LABEL
from segjax.data.flow import RecordFlow
from segjax.data.geometry import cut, draw_crop, window_size
from segjax.data.pipeline import eval_rows, local_rows
from segjax.data.samples import Spec
from segjax.data.sources import Record
from segjax.data.stream import DEFAULT_READING, Reading, Sample, stream_batches
from segjax.data.timeline import Bucket
from segjax.data.video import FrameIndex
from segjax.errors import UserError


class Snippets:
    """The frames of a video source that have `before` neighbours before them, numbered 0 .. n - 1.

    index: of the source's frames.
    before: number of neighbours before a frame, 1 or more.
    labelled_only: whether only labelled frames are taken.

    names, sizes: of the frames.
    skipped: names of the frames left out because a neighbour is missing or has another size.
    Raises UserError if there is none.
    """

    def __init__(self, index: FrameIndex, before: int, *, labelled_only: bool = True):
        self.index, self.before = index, before
        offsets = range(-before, 1)
        labelled = np.asarray(index.table.labelled)
        taken = index.groups(offsets)
        self.records = taken[labelled[taken[:, -1]]] if labelled_only else taken
        wanted = np.flatnonzero(labelled) if labelled_only else np.arange(len(labelled))
        found = set(self.records[:, -1].tolist())
        self.skipped = [str(index.table.names[record]) for record in wanted if record not in found]
        if not len(self.records):
            what = "labelled frame" if labelled_only else "frame"
            raise UserError(
                f"no {what} has {before} frames before it, {index.step} frame numbers apart, so there is none to "
                "label from a keyframe; use a split with unlabelled frames, lower the interval, or set frame_step."
            )
        last = self.records[:, -1]
        self.names = [str(index.table.names[record]) for record in last]
        self.sizes = np.asarray(index.table.sizes)[last]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_classes(self) -> int:
        """Number of classes k of the labels."""
        return self.index.source.num_classes

    def frames(self, number: int, count: int) -> list[Record]:
        """Returns the last `count` frames of a snippet, in time order."""
        return [self.index.source[int(record)] for record in self.records[number, self.before + 1 - count :]]


class JoinedSnippets:
    """Snippets of several sources, one source after the other, such as those of a dataset and of one's own videos.

    parts: of the same `before`; each has its own frame rate.

    names, sizes, skipped: see `Snippets`.
    """

    def __init__(self, parts: Sequence[Snippets]):
        self.parts = list(parts)
        self.before = self.parts[0].before
        self.names = [name for part in self.parts for name in part.names]
        self.skipped = [name for part in self.parts for name in part.skipped]
        self.sizes = np.concatenate([part.sizes for part in self.parts])
        self._offsets = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def frames(self, number: int, count: int) -> list[Record]:
        """Returns the last `count` frames of a snippet, in time order."""
        part = int(np.searchsorted(self._offsets, number, side="right")) - 1
        return self.parts[part].frames(number - int(self._offsets[part]), count)


@dataclasses.dataclass(eq=False)
class SnippetCrops:
    """Random crops of snippets, the same place in all frames; implements `samples.Samples`.

    snippets: the frames; `Reading.cached` keeps decoded ones in memory.
    scales: factors by which frames are enlarged, of which one is drawn.

    Arrays of a sample, for the window (H, W) of `window_size` and t frames of its bucket:
        image uint8 (t, H, W, 3)  part of the frames, in time order
        label uint8 (H, W)        train ids of the last one; 255 if it has no label
        extent, box               see `ImageCrops`
    """

    snippets: Snippets | JoinedSnippets
    scales: Sequence[float] = (1.0,)

    def __post_init__(self):
        self.scales = tuple(self.scales)
        self._windows: dict[Bucket, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.snippets)

    @property
    def names(self) -> list[str]:
        """Names of the last frames."""
        return self.snippets.names

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the frames, int (n, 2)."""
        return self.snippets.sizes

    def window(self, bucket: Bucket) -> tuple[int, int]:
        """Returns the height and width (H, W) of a bucket's samples. Raises UserError as `window_size` does."""
        if bucket not in self._windows:
            self._windows[bucket] = window_size(bucket.crop, (min(self.scales), max(self.scales)), self.sizes)
        return self._windows[bucket]

    def check(self, buckets: Iterable[Bucket]) -> None:
        """Raises UserError for wrong scales; frames smaller than the crop are no error, but padded."""
        for bucket in buckets:
            self.window(bucket)

    def spec(self, bucket: Bucket) -> Spec:
        """Returns name -> (shape, dtype) of the arrays of one sample."""
        window = self.window(bucket)
        return {
            "image": ((bucket.frames, *window, 3), np.uint8),
            "label": (window, np.uint8),
            "extent": ((4,), np.float32),
            "box": ((4,), np.float32),
        }

    def read(self, record: int, place: np.ndarray, bucket: Bucket, rng: np.random.Generator) -> Sample:
        """Draws a scale and a crop, and returns its window in all frames; arguments and errors as in `Samples.read`."""
        frames, window = self.snippets.frames(record, bucket.frames), self.window(bucket)
        last, scale = frames[-1], float(rng.choice(self.scales))
        size = last.image.shape[:2]
        rows, columns = draw_crop(
            size,
            crop=bucket.crop,
            window=window,
            scale_range=(scale, scale),
            centroid=None if place[0] < 0 else (int(place[0]), int(place[1])),
            rng=rng,
        )
        start = (rows.start, columns.start)
        label = np.full(size, IGNORE_LABEL, np.uint8) if last.label is None else last.label
        extent = [min(side - first, length) for side, first, length in zip(size, start, window)]
        return dict(
            image=np.stack([cut(frame.image, start, window, fill=0) for frame in frames]),
            label=cut(label, start, window, fill=IGNORE_LABEL),
            extent=np.array([0, 0, *extent], np.float32),
            box=np.array([rows.low, columns.low, rows.high, columns.high], np.float32),
        )


class _WholeReader:
    """Whole snippets of the rows of one process; arguments as in `eval_snippets`.

    rows: numbers of the snippets (m, b) of the m batches, -1 = fills up. sizes: height and width of each batch, (m, 2).
    """

    def __init__(self, snippets: Snippets, rows: np.ndarray, sizes: np.ndarray, flow: RecordFlow | None):
        self.snippets, self.rows, self.sizes, self.flow = snippets, rows, sizes, flow

    def __call__(self, number: int) -> Sample:
        batch, row = divmod(number, self.rows.shape[1])
        record, size = int(self.rows[batch, row]), tuple(map(int, self.sizes[batch]))
        count = self.snippets.before + 1
        image, label = np.zeros((count, *size, 3), np.uint8), np.full(size, IGNORE_LABEL, np.uint8)
        if record >= 0:
            frames = self.snippets.frames(record, count)
            image = np.stack([frame.image for frame in frames])
            label = label if frames[-1].label is None else frames[-1].label
        weight, number = np.array(record >= 0, np.float32), np.array(record, np.int32)
        sample = dict(image=image, label=label, weight=weight, record=number)
        return sample if self.flow is None else sample | self._motion(frames if record >= 0 else [], size)

    def _motion(self, frames: list[Record], size: tuple[int, int]) -> Sample:
        flow, in_view = np.zeros((*size, 2), np.float32), np.zeros(size, bool)
        label = np.full(size, IGNORE_LABEL, np.uint8)
        if frames:
            before, last = frames[-2:]
            flow = np.asarray(self.flow([last], [before])[0], np.float32)
            y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
            x, y = x + flow[..., 0], y + flow[..., 1]
            in_view = (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)
            in_view = in_view if last.flow_valid is None else in_view & last.flow_valid
            label = label if before.label is None else before.label
        return dict(flow=flow, in_view=in_view, label_before=label)


def eval_snippets(
    snippets: Snippets,
    reading: Reading = DEFAULT_READING,
    *,
    batch_size: int,
    flow: RecordFlow | None = None,
    limit: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Sample]:
    """Yields this process's rows of batches that show every whole snippet once.

    flow: of pairs of frames, None for none. Other arguments and errors as in `eval_batches`.

    Arrays, b rows of this process:
        image uint8 (b, t, h, w, 3)  in time order, t = snippets.before + 1
        label uint8 (b, h, w)        train ids of the last frame
        weight, record               see `eval_batches`
    and with flow:
        flow float32 (b, h, w, 2)    in pixels, from the last frame into the one before
        in_view bool (b, h, w)       whether it leads into the frame, to a pixel that is visible there if that is known
        label_before uint8 (b, h, w) train ids of the frame before; 255 if it has no label
    """
    local = local_rows(batch_size, process_count)
    rows, sizes = eval_rows(snippets.sizes, batch_size, limit=limit)
    mine = rows[:, process_index * local : (process_index + 1) * local]
    return stream_batches(_WholeReader(snippets, mine, sizes, flow), [local] * len(mine), reading)
