"""Sources made of other sources: some records of one, or several sources one after the other."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from segjax.data.sources import LabelledClasses, Record, Source
from segjax.errors import UserError


class Subset(LabelledClasses):
    """Some records of a source.

    rows: numbers of the records, int (n,). fingerprint: text that changes with the contents of the records.
    """

    def __init__(self, source: Source, rows: np.ndarray, *, fingerprint: str = ""):
        self.source, self.rows, self.fingerprint = source, np.asarray(rows, np.int64), fingerprint
        self.label_map, self.top_k = source.label_map, source.top_k

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        return self.source[int(self.rows[index])]

    def label(self, index: int) -> np.ndarray | None:
        """Returns the label of a record, without decoding its image."""
        return self.source.label(int(self.rows[index]))

    @property
    def own_classes(self) -> tuple[int, ...]:
        """Train ids that the labels of the source may contain."""
        return self.source.own_classes

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the records."""
        names = self.source.names
        return [names[row] for row in self.rows]

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the records, int32 (n, 2)."""
        return self.source.sizes[self.rows]


class Joined(LabelledClasses):
    """The records of several sources with the same classes, one source after the other.

    offsets: number of each source's first record, and the number of all records.
    top_k: the largest of the sources.
    Raises UserError if the classes differ.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        self.label_map = self.sources[0].label_map
        for source in self.sources[1:]:
            if other := class_difference(self.sources[0].class_names, source.class_names):
                raise UserError(
                    f"two datasets cannot be trained on together, because one {other}; map them to the same classes."
                )
        self.offsets = np.cumsum([0, *map(len, self.sources)])
        self.top_k = max(source.top_k for source in self.sources)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, index: int) -> Record:
        source, row = self._find(index)
        return source[row]

    def label(self, index: int) -> np.ndarray | None:
        """Returns the label of a record, without decoding its image."""
        source, row = self._find(index)
        return source.label(row)

    @property
    def own_classes(self) -> tuple[int, ...]:
        """Train ids that the labels of some source may contain."""
        return tuple(sorted({train_id for source in self.sources for train_id in source.own_classes}))

    def _find(self, index: int) -> tuple[Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return self.sources[which], index - int(self.offsets[which])

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the records."""
        return [name for source in self.sources for name in source.names]

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of the records, int32 (n, 2)."""
        return np.concatenate([source.sizes for source in self.sources])


def class_difference(common: Sequence[str], found: Sequence[str]) -> str:
    """Returns how class names differ from common ones, as the end of a sentence about `found`; "" if they are equal."""
    for verb, some, others in (("lacks", common, found), ("has", found, common)):
        names = list((Counter(some) - Counter(others)).elements())  # a wall outside and one inside are two classes
        if names:
            whose = "the common" if verb == "lacks" else "its"
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            beside = "" if verb == "lacks" else ", which are not among the common ones"
            listed = ", ".join(names[:5])
            return f"{verb} {len(names)} of {whose} {len(some)} classes ({listed}{more}){beside}"
    for number, (one, other) in enumerate(zip(common, found)):
        if one != other:
            return f"has the same classes in another order (train_id {number} is {other!r} instead of {one!r})"
    return ""
