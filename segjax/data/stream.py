"""Runs a loading function over numbers 0 .. n - 1, in order, in threads or worker processes of Grain."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import flags

from segjax.data.cache import CachedSource
from segjax.data.sources import Source
from segjax.errors import UserError
from segjax.host import usable_cores

Sample = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How samples are read: the section `loader` of a recipe. It changes neither the samples nor their order.

    num_workers: worker processes. 0 reads in threads of this process, which suffices if decoding takes most of the
        time: it releases the interpreter's lock.
    num_threads: threads over all workers, by default one per core and at most 16. 0 reads when a batch is requested.
    prefetch: batches that are ready, or being read, ahead of the one in use.
    cache_bytes: memory for decoded records, over all workers of this process; see `cached`.

    Raises UserError for a negative number.
    """

    num_workers: int = 0
    num_threads: int | None = None
    prefetch: int = 2
    cache_bytes: int = 0

    def __post_init__(self):
        for name in ("num_workers", "num_threads", "prefetch", "cache_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"loader.{name}={value} must be 0 or more.")

    @property
    def threads(self) -> int:
        """num_threads, or its default."""
        return min(usable_cores(), 16) if self.num_threads is None else self.num_threads

    def cached(self, source: Source) -> Source:
        """Returns the source, with a cache of cache_bytes (divided among the workers) unless that is 0."""
        if not self.cache_bytes:
            return source
        return CachedSource(source, self.cache_bytes // max(self.num_workers, 1))


DEFAULT_READING = Reading()


def stream(load: Callable[[int], Sample], count: int, reading: Reading, *, batch: int) -> Iterator[Sample]:
    """Yields load(0), .. load(count - 1); raises an error of `load` when its sample is due.

    Raises UserError if the system ends a worker, as it does when memory is short.

    load: picklable if there are workers, which are spawned: a fork could copy locks that JAX's threads hold.
    batch: samples that are used at once, so that `prefetch` batches fit the buffers.
    """
    import grain  # loads jax, which nothing else here needs

    workers, threads, ahead = reading.num_workers, reading.threads, reading.prefetch * batch
    per_worker = -(-threads // workers) if workers else threads
    # with workers, the finished samples wait in their queues, and threads need no buffer of their own
    buffer = max(per_worker, ahead if not workers else 0) if per_worker else 0
    dataset = grain.MapDataset.range(count).map(load)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=per_worker, prefetch_buffer_size=buffer))
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads flags, which a program without absl.app never parses
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(-(-ahead // workers), 1))
        small = grain.experimental.DatasetOptions(min_shm_size=1 << 14)  # only images are worth a shared memory file
        dataset = grain.experimental.WithOptionsIterDataset(dataset, small)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_start_worker)
    iterator = iter(dataset)
    try:
        yield from iterator
    except UserError as error:
        raise UserError(*error.args) from None  # without Grain's notes
    except RuntimeError as error:
        ended = re.search(r"terminated unexpectedly with exit code -(\d+)", str(error))
        if ended is None:
            raise
        why = ", as the system does when memory is short" if ended[1] == "9" else ""
        raise UserError(
            f"a worker process of the loader was ended by signal {ended[1]}{why}; lower loader.num_workers, "
            "loader.prefetch or loader.cache_bytes; the same command goes on from the last checkpoint."
        ) from None
    finally:
        iterator.close()


def stream_batches(load: Callable[[int], Sample], rows: Sequence[int], reading: Reading) -> Iterator[Sample]:
    """Yields batches of the samples load(0), load(1), ...; rows: number of samples of each batch, in order."""
    if not rows:
        return
    samples = stream(load, sum(rows), reading, batch=max(rows))
    try:
        for count in rows:
            yield stack(list(itertools.islice(samples, count)))
    finally:
        samples.close()


def stack(samples: Sequence[Sample]) -> Sample:
    """Returns samples as a batch: every array with a new leading axis."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _start_worker(index: int, count: int) -> None:
    import cv2

    os.environ["JAX_PLATFORMS"] = "cpu"  # should anything in a worker start JAX, it must not take the accelerator
    cv2.setNumThreads(1)
