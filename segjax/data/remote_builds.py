"""Built datasets in a bucket: built by one host, and read by all shard by shard."""

from __future__ import annotations

import bisect
import collections
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.remote import Address, Store
from segjax.remote.lease import Busy, Lease, host_name
from segjax.remote.mirror import Mirror
from segjax.remote.notes import write_note
from segjax.remote.shards import is_partial, local_shard

POLL = 5.0  # seconds between two looks at a build of another host


def open_remote_build(address: Address, target: Path, build: Callable[[], None], lock: Path) -> None:
    """Makes `target` the local copy of a remote dataset, without its records; builds the dataset if there is none.

    Among hosts, one builds and the others wait for it. The dataset is in the bucket when its list of files is, which is
    written last.

    address: of the dataset's own folder.
    target: its local folder.
    build: builds the dataset in `target`, on the local disk.
    lock: file beside `target` that this process has locked.

    Raises UserError if the bucket refuses or is full, and as `build` does.
    """
    if is_partial(target):
        return
    store, waits = Store(address), False
    while not _fetch(store, target):
        try:
            lease = Lease(store, host_name(lock))
        except Busy as busy:
            if not waits:
                print(f"Waiting for {busy.who}, which builds {address} ...", file=sys.stderr, flush=True)
            waits = True
            time.sleep(POLL)
            continue
        try:
            if _fetch(store, target):  # another host was faster
                return
            if not target.is_dir():
                build()
            print(f"Copying the dataset to {address} ...", file=sys.stderr, flush=True)
            mirror = Mirror(store, target)
            while not mirror.push():
                time.sleep(POLL)
            _write_note(target, mirror)
        finally:
            lease.close()
        return


def _fetch(store: Store, target: Path) -> bool:
    """Fetches all files of a remote dataset but its records; returns False if there is no such dataset yet."""
    folder = target.with_name(f".fetching-{target.name}")
    mirror = Mirror(store, folder)
    if not mirror.pull():
        return False
    if target.is_dir():  # built here, and the process died before it could note that the bucket has it
        _write_note(target, mirror)
        return True
    os.rename(folder, target)
    return True


def _write_note(target: Path, mirror: Mirror) -> None:
    files = {name: [entry.size, entry.time, entry.digest] for name, entry in mirror.files.items()}
    write_note(target, str(mirror.store.address), files)


class ShardReader:
    """The records of a stored split, of which some shards are in a bucket only; safe to use from several threads.

    builder: TFDS builder of the dataset.
    split: stored split.
    decoders: of TFDS.
    """

    def __init__(self, builder: Any, split: str, decoders: Mapping[str, Any]):
        info = builder.info.splits[split]
        self._builder, self._split, self._decoders = builder, split, decoders
        self._files = [Path(file) for file in info.filepaths]
        self._ends = list(itertools.accumulate(info.shard_lengths))
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        """Returns a record; its shard is fetched first if needed. Raises UserError as `local_shard` does."""
        shard = bisect.bisect_right(self._ends, row)
        begin = self._ends[shard - 1] if shard else 0
        return self._shard(shard, begin)[row - begin]

    def _shard(self, shard: int, begin: int) -> Any:
        import tensorflow_datasets as tfds

        with self._lock:
            there = self._files[shard].exists()
            local_shard(self._files[shard])
            if shard in self._open and there:
                return self._open[shard]
            for other in [other for other in self._open if not self._files[other].exists()]:
                del self._open[other]  # else a file that gave way would keep its place on the disk
            part = tfds.core.ReadInstruction(self._split, from_=begin, to=self._ends[shard], unit="abs")
            self._open[shard] = self._builder.as_data_source(part, decoders=self._decoders)
            return self._open[shard]
