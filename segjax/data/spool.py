"""Keeps the records of a split on disk until all are known, in the order they come, in flat memory.

TFDS must know the size of a split before it writes the first shard. Its own buffer takes up to 1 GB of memory, and then
needs TensorFlow and reads unshuffled splits back at once; this one takes its place.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 256 * 2**20  # bytes per temporary file; each is removed when it has been read


class Spool:
    """What TFDS asks of its Shuffler: `add` in order, then iterate once."""

    def __init__(self, dirpath: Any, hash_salt: Any = None, disable_shuffling: bool = True, **_: Any):
        self._folder, self._prefix = Path(dirpath), f"spool-{uuid.uuid4().hex}"
        self._lengths: list[list[int]] = []
        self._file: Any = None
        self.size = 0
        self.num_examples = 0

    @property
    def bucket_lengths(self) -> list[int]:
        """Number of records, as one bucket."""
        return [self.num_examples]

    def add(self, key: Any, data: bytes) -> bool:
        """Appends one record."""
        if self._file is None or self._file.tell() >= _CHUNK:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path(len(self._lengths)), "wb")  # noqa: SIM115 (closed by the next, or by close)
            self._lengths.append([])
        self._file.write(data)
        self._lengths[-1].append(len(data))
        self.size += len(data)
        self.num_examples += 1
        return True

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self.close()
        index = 0
        for chunk, lengths in enumerate(self._lengths):
            with open(self._path(chunk), "rb") as file:
                for length in lengths:
                    yield index, file.read(length)
                    index += 1
            self._path(chunk).unlink()

    def close(self) -> None:
        """Ends the file that is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _path(self, chunk: int) -> Path:
        return self._folder / f"{self._prefix}-{chunk}.tmp"


@contextlib.contextmanager
def spooled() -> Iterator[None]:
    """Lets TFDS write data sets that are not shuffled through a Spool."""
    from tensorflow_datasets.core import shuffle

    original = shuffle.Shuffler

    def choose(*args: Any, disable_shuffling: bool = False, **kwargs: Any) -> Any:
        return (Spool if disable_shuffling else original)(*args, disable_shuffling=disable_shuffling, **kwargs)

    shuffle.Shuffler = choose
    try:
        yield
    finally:
        shuffle.Shuffler = original
