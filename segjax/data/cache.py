"""A source that keeps decoded records in memory, up to a number of bytes."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np

from segjax.data.sources import Record, Source, SourceView


class CachedSource(SourceView):
    """A source that decodes each record once, as long as the kept records take at most max_bytes.

    Nothing is evicted: each epoch reads every record once, so evicting the oldest would evict the next one needed.
    Copies in other processes start empty. Do not write to the arrays of a record.
    """

    def __init__(self, source: Source, max_bytes: int):
        super().__init__(source)
        self.max_bytes = int(max_bytes)
        self._start()

    def _start(self) -> None:
        self._records: dict[int, Record] = {}
        self._lock = threading.Lock()
        self.bytes = 0

    def __getitem__(self, index: int) -> Record:
        record = self._records.get(index)
        if record is None:
            record = self.source[index]
            size = sum(x.nbytes for x in vars_of(record) if isinstance(x, np.ndarray))
            with self._lock:
                if index not in self._records and self.bytes + size <= self.max_bytes:
                    self._records[index] = record
                    self.bytes += size
        return record

    def label(self, index: int) -> np.ndarray | None:
        """Returns the label of a record, without decoding its image; keeps nothing."""
        record = self._records.get(index)
        return self.source.label(index) if record is None else record.label

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self.max_bytes = state["source"], state["max_bytes"]
        self._start()


def vars_of(record: Record) -> list[Any]:
    """Returns the values of a record's fields."""
    return [getattr(record, field.name) for field in dataclasses.fields(record)]
