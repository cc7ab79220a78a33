"""A dataset written group by group: shared among the processes, and resumed after a kill."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import parallel
from segjax.data.record_shards import Examples, RecordShards

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class Written:
    """Result of `write_records`.

    notes: summaries of all shards, of all processes.
    records: number written by this process in this call.
    seconds: that these took.
    """

    notes: Sequence[Mapping[str, Any]]
    records: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Records per second in this process; None if all were written before."""
        return round(self.records / self.seconds, 2) if self.records else None


def write_records(
    shards: RecordShards,
    groups: Sequence[Any],
    compute: Callable[[Any], Any],
    encode: Callable[[Any], tuple[Examples, Mapping[str, Any]]],
    *,
    prepare: Callable[[Any], Any] = lambda group: group,
) -> Written:
    """Writes a shard for every group that has none. Every process must call it.

    After a kill, only the groups that were being computed or written are computed again.

    shards: of the dataset.
    groups: one for each shard.
    compute: prepared group -> results, whose len() is their number. Runs in this thread, on the devices.
    encode: results -> (split -> records, summary of the shard). Runs in another thread while the next group is
        computed.
    prepare: group -> prepared group. Runs in a third thread, one group ahead, in the order of the groups.

    Raises UserError if the folder contains shards of other settings, or cannot be written.
    """
    if jax.process_index() == 0:
        shards.open()
    parallel.sync(f"{shards.name}: folder")
    start = time.perf_counter()
    records = _write_mine(shards, groups, prepare, compute, encode)
    seconds = time.perf_counter() - start
    parallel.sync(f"{shards.name}: shards")
    return Written([shards.summary(number) for number in range(len(groups))], records, seconds)


def finish_records(
    shards: RecordShards, written: Written, *, extra_files: Mapping[str, Mapping[str, np.ndarray]] | None = None
) -> Path:
    """Combines the shards on process 0 and returns the folder of the dataset; see `RecordShards.finish`."""
    if jax.process_index() == 0:
        shards.finish(len(written.notes), extra_files=extra_files)
    parallel.sync(f"{shards.name}: dataset")
    return shards.directory


def _write_mine(
    shards: RecordShards, groups: Sequence[Any], prepare: Callable, compute: Callable, encode: Callable
) -> int:
    mine = range(jax.process_index(), len(groups), jax.process_count())
    todo = [number for number in mine if shards.summary(number) is None]
    if len(todo) < len(mine):
        log.info("%d of %d shards are done", len(mine) - len(todo), len(mine))

    def write(number: int, results: Any) -> None:
        shards.write(number, *encode(results))

    count, writing = 0, None
    threads = functools.partial(ThreadPoolExecutor, 1)
    # one is written while the next is computed and the one after that prepared
    with threads(thread_name_prefix="group") as reader, threads(thread_name_prefix="shard") as writer:
        reading = reader.submit(prepare, groups[todo[0]]) if todo else None
        for done, number in enumerate(todo, start=1):
            start = time.perf_counter()
            prepared = reading.result()
            if done < len(todo):
                reading = reader.submit(prepare, groups[todo[done]])
            results = compute(prepared)
            if writing:
                writing.result()
            writing = writer.submit(write, number, results)
            count += len(results)
            rate = len(results) / (time.perf_counter() - start)
            log.info("shard %d of %d: %d records, %.1f records/s", done, len(todo), len(results), rate)
        if writing:
            writing.result()
    return count
