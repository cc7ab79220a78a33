"""Which classes of a taxonomy are compared: all of the network's, or those that the labels of a dataset may have.

One pixel of a class that the dataset lacks is an IoU of 0 in the mean over all classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from segjax.data import Source
from segjax.errors import choose
from segjax.stages.dataset import Dataset

CLASSES = ("all", "own")


def check_choice(settings: Mapping[str, Any], key: str, *, where: str) -> None:
    """Raises UserError for an unknown name in settings[key]; where: config key of the section."""
    value = settings.get(key, "all")
    name = value if isinstance(value, str) else repr(value)  # a list of classes, as train.extra.NAME.classes takes
    choose(dict.fromkeys(CLASSES), name, where=f"{where}.{key}")


def compared_classes(which: str, dataset: Dataset, source: Source, split: str) -> tuple[Source, tuple[int, ...]]:
    """Returns (records whose labels are places among the compared classes; train ids of these, () = all).

    which: one of CLASSES.
    dataset, split: from which the records were opened.
    source: the records, with the classes of the network.
    """
    own = source.own_classes
    if which == "all" or len(own) == source.num_classes:
        return source, ()
    return dataclasses.replace(dataset, label_map=source.label_map.only(own)).open(split), own
