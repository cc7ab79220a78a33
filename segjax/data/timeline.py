"""The epoch, first sample and batch shape of each global step. Arithmetic, so that training resumes at any step."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from segjax.errors import UserError


class Bucket(NamedTuple):
    """The shape of a batch; each has its own executable.

    crop: (h, w) in pixels. batch: samples per step over all processes. frames: of a sample of video.
    """

    crop: tuple[int, int]
    batch: int
    frames: int = 1


class Place(NamedTuple):
    """The samples of a step: first .. first + bucket.batch - 1 of an epoch."""

    epoch: int
    first: int
    bucket: Bucket


class Run(NamedTuple):
    """Consecutive steps start .. end - 1 of one bucket."""

    start: int
    end: int
    bucket: Bucket


class Timeline:
    """Maps global steps, numbered from 0, to epochs. Samples at the end of an epoch that fill no batch are skipped.

    length: samples per epoch, or a list with one length per epoch (`EpochPlan.length_of`).
    shapes: (crop (h, w), batch) of every epoch, in order.
    total_steps: number of steps, if the run stops before the end of the last epoch.
    frames: frames of the samples of each epoch's steps, in turns; () = 1 frame in all of them.

    Raises UserError without epochs, for a batch larger than an epoch, and for more total_steps than the epochs have.
    """

    def __init__(
        self,
        length: int | Sequence[int],
        shapes: Sequence[tuple[tuple[int, int], int]],
        *,
        total_steps: int | None = None,
        frames: Sequence[Sequence[int]] = (),
    ):
        if not shapes:
            raise UserError("a run needs at least 1 epoch.")
        self._buckets = [Bucket((int(shape[0][0]), int(shape[0][1])), int(shape[1])) for shape in shapes]
        self._turns = [
            tuple(bucket._replace(frames=count) for count in counts)
            for bucket, counts in zip(self._buckets, frames or [(1,)] * len(shapes), strict=True)
        ]
        lengths = [length] * len(shapes) if isinstance(length, int) else list(length)
        if len(lengths) != len(shapes):
            raise ValueError(f"{len(lengths)} lengths for {len(shapes)} epochs")
        for samples, bucket in set(zip(lengths, self._buckets)):
            if not 1 <= bucket.batch <= samples:
                raise UserError(
                    f"batch_size={bucket.batch} must be from 1 to the {samples} samples of an epoch; lower it to "
                    "train on so few images."
                )
        steps = [samples // bucket.batch for samples, bucket in zip(lengths, self._buckets)]
        self._starts = list(itertools.accumulate(steps, initial=0))
        images = (count * bucket.batch for count, bucket in zip(steps, self._buckets))
        self._images = list(itertools.accumulate(images, initial=0))
        self.total_steps = self._starts[-1] if total_steps is None else total_steps
        if not 0 <= self.total_steps <= self._starts[-1]:
            raise UserError(
                f"total_steps={total_steps} must be from 0 to the {self._starts[-1]} of {len(shapes)} epochs."
            )

    @classmethod
    def constant(
        cls, length: int, *, crop: tuple[int, int], batch: int, epochs: int, total_steps: int | None = None
    ) -> Timeline:
        """Returns a timeline with the same crop and batch in every epoch."""
        return cls(length, [(crop, batch)] * epochs, total_steps=total_steps)

    @property
    def epochs(self) -> int:
        """Number of epochs that have a shape."""
        return len(self._buckets)

    @property
    def buckets(self) -> list[Bucket]:
        """The different shapes, in the order of their first step."""
        return list(dict.fromkeys(run.bucket for run in self.runs()))

    def at(self, step: int) -> Place:
        """Returns the place of a step, in O(log epochs). Raises IndexError beyond the last step."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} is not in 0..{self.total_steps - 1}")
        epoch = bisect.bisect_right(self._starts, step) - 1
        number = step - self._starts[epoch]
        bucket = self._turns[epoch][number % len(self._turns[epoch])]
        return Place(epoch, number * bucket.batch, bucket)

    def epoch_start(self, epoch: int) -> int:
        """Returns the first step of an epoch; epoch_start(epochs) is the end of the last one."""
        return self._starts[epoch]

    def examples(self, step: int) -> int:
        """Returns the number of images of the steps before a step; beyond the last epoch, its batch goes on."""
        epoch = min(bisect.bisect_right(self._starts, step), self.epochs) - 1
        return self._images[epoch] + (step - self._starts[epoch]) * self._buckets[epoch].batch

    def steps_for(self, examples: float) -> int:
        """Returns the number of steps whose images come nearest to a number; beyond the last epoch as in `examples`."""
        epoch = min(bisect.bisect_right(self._images, examples), self.epochs) - 1
        return round(self._starts[epoch] + (examples - self._images[epoch]) / self._buckets[epoch].batch)

    def progress(self, step: int) -> float:
        """Returns the epochs done before a step, with fraction: 2.5 is the middle of the third epoch."""
        if step >= self._starts[-1]:
            return float(self.epochs)
        epoch = bisect.bisect_right(self._starts, step) - 1
        return epoch + (step - self._starts[epoch]) / (self._starts[epoch + 1] - self._starts[epoch])

    def runs(self, start: int = 0, end: int | None = None) -> list[Run]:
        """Returns the steps start .. end - 1 as the longest runs of one bucket."""
        end = self.total_steps if end is None else min(end, self.total_steps)
        runs: list[Run] = []
        while start < end:
            epoch, _, bucket = self.at(start)
            stop = min(self._starts[epoch + 1], end) if len(self._turns[epoch]) == 1 else start + 1
            if runs and runs[-1].bucket == bucket:
                runs[-1] = Run(runs[-1].start, stop, bucket)
            else:
                runs.append(Run(start, stop, bucket))
            start = stop
        return runs
