"""Propagated data sets: what is stored of every record, and how a training chooses the steps it shows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.data.classes import IGNORE_LABEL, ClassTable, Label
from segjax.data.joined import Subset
from segjax.data.label_map import LabelMap
from segjax.data.tfds_source import TfdsSource
from segjax.errors import UserError, did_you_mean

# lp: the carried label on the real frame; jp: the carried label on the carried image (VPLR, section 3.1)
MODES = ("jp", "lp")
# beside the features of every data set
PROVENANCE = {
    "source_name": "text",
    "source_frame": "int",
    "step": "int",
    "direction": "int",
    "mode": "text",
    "method": "text",
    "model": "text",
    "config": "text",
}


def with_ignored(label_map: LabelMap) -> LabelMap:
    """The map of raw ids with an ignored label, which carried labels need even where the given ones do not."""
    label_map = label_map.with_ids()
    labels = label_map.table.labels
    if label_map.ignored_ids:
        return label_map
    number = IGNORE_LABEL if IGNORE_LABEL not in label_map.table.ids else max(label_map.table.ids) + 1
    ignored = Label(number, "ignored", IGNORE_LABEL, (0, 0, 0))
    return dataclasses.replace(label_map, table=ClassTable((*labels, ignored)))


def provenance_file(mode: str) -> str:
    """Name of the file beside the records that holds their signed steps, int32 (n,), and the digest of the settings."""
    return f"provenance-{mode}.npz"


def open_propagated(directory: str | os.PathLike, *, mode: str, steps: Sequence[int]) -> Subset:
    """The records of a propagated data set that lie the given numbers of steps away, on either side.

    mode: "jp" or "lp". steps: (3,) shows t - 3 and t + 3 only (not accumulated, published), (1, 2, 3) all within 3.
    Raises UserError when the data set lacks the mode or one of the steps.
    """
    directory = Path(directory)
    if not (directory / "dataset_info.json").is_file():
        raise UserError(f"{directory} holds no propagated data set; run the stage that writes it first.")
    if mode not in MODES:
        raise UserError(f"propagated data has no mode {mode!r}.{did_you_mean(mode, MODES)}")
    path = directory / provenance_file(mode)
    if not path.is_file():
        raise UserError(f"{directory} holds no records of mode {mode!r}; add it to the modes of the stage propagate.")
    with np.load(path) as arrays:
        distance, digest = np.abs(arrays["steps"]), str(arrays["config"])
    missing = [step for step in steps if step not in distance]
    if missing or not steps:
        raise UserError(
            f"{directory} holds no record {missing[0] if missing else 0} steps away; choose steps from 1 to "
            f"{distance.max()}, or propagate further."
        )
    return Subset(TfdsSource(directory, mode), np.flatnonzero(np.isin(distance, steps)), fingerprint=digest)
