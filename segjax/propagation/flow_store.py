"""A cache of optical flow between records, which the chains of a propagation share."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.data.flow import RecordFlow
from segjax.data.sources import Record


class FlowStore:
    """A cache of the flow of pairs of records; chains of neighbouring labelled frames need the same pairs.

    Several propagators over the same records may share one store.

    flow: that computes new pairs.
    max_bytes: memory for fields; the least recently used ones are evicted.
    """

    def __init__(self, flow: RecordFlow | None, max_bytes: int = 2**30):
        self._flow, self._max_bytes, self._bytes = flow, max_bytes, 0
        self._known: collections.OrderedDict[tuple[int, int], np.ndarray] = collections.OrderedDict()

    def __call__(self, pairs: Sequence[tuple[int, int]], records: dict[int, Record]) -> list[np.ndarray]:
        """Returns the flow field (h, w, 2), in pixels, of each pair (a, b), from a to b.

        pairs: of records.
        records: record -> frame.
        """
        found = {pair: self._known[pair] for pair in pairs if pair in self._known}
        new = [pair for pair in dict.fromkeys(pairs) if pair not in found]
        if new:
            a, b = ([records[pair[i]] for pair in new] for i in (0, 1))
            found |= zip(new, self._by_size(a, b))
        for pair in dict.fromkeys(pairs):
            self._keep(pair, found[pair])
        return [found[pair] for pair in pairs]

    def _by_size(self, a: list[Record], b: list[Record]) -> list[np.ndarray]:
        sizes = [record.image.shape[:2] for record in a]
        flows: list[Any] = [None] * len(a)
        for size in dict.fromkeys(sizes):
            rows = [i for i, other in enumerate(sizes) if other == size]
            for row, flow in zip(rows, self._flow([a[i] for i in rows], [b[i] for i in rows])):
                flows[row] = np.array(flow, np.float32)  # a copy: a view would keep the whole batch in memory
        return flows

    def _keep(self, pair: tuple[int, int], flow: np.ndarray) -> None:
        if pair in self._known:
            self._known.move_to_end(pair)
            return
        self._known[pair] = flow
        self._bytes += flow.nbytes
        while self._bytes > self._max_bytes and len(self._known) > 1:
            _, old = self._known.popitem(last=False)
            self._bytes -= old.nbytes
