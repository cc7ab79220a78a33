"""Datasets that a stage has written: their kind, and what is stored of every record."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from segjax.data.array_file import read_arrays
from segjax.data.classes import IGNORE_LABEL, ClassTable, Label
from segjax.data.joined import Subset
from segjax.data.label_map import LabelMap
from segjax.data.tfds_builder import built_again, open_builder
from segjax.data.tfds_source import TfdsSource
from segjax.errors import UserError, did_you_mean
from segjax.files import config_hash

PROPAGATED = "propagated"  # kind of the datasets of the stage propagate
PSEUDO = "pseudo"  # kind of the datasets of the stage pseudo_label, and their only split
# lp: the propagated label on the real frame; jp: the propagated label on the propagated image (VPLR, section 3.2)
MODES = ("jp", "lp")
# features of pseudo labels beside those of every dataset: pool; dataset and split, or folder or video; record or file
PSEUDO_PROVENANCE = {
    "pool": "text",
    "source": "text",
    "source_name": "text",
    "checkpoint": "text",
    "model": "text",
    "config": "text",
}
# features of propagated labels beside those of every dataset
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


@dataclasses.dataclass(frozen=True)
class Derived:
    """A dataset that a stage has written.

    directory: folder with dataset_info.json.
    kind: what the stage wrote, for example `PROPAGATED`.
    splits: their names.
    soft: fields of `TfdsSource` with soft labels: ("soft",), or () for none.
    fingerprint: text that changes with the settings that the records depend on, "" if it is not known.
    """

    directory: Path
    kind: str
    splits: tuple[str, ...]
    soft: tuple[str, ...] = ()
    fingerprint: str = ""

    def open(self, split: str, *, fields: Collection[str] = ()) -> TfdsSource:
        """Opens the records of a split; fields: see `TfdsSource`. Raises UserError as that does."""
        return TfdsSource(self.directory, split, fields=fields)


def open_derived(folder: str | os.PathLike, where: str = "") -> Derived:
    """Opens a dataset that a stage has written, of any kind: its folder, or that of the stage.

    where: the config key that names the folder, for the error.
    A dataset whose metadata holds no kind was written by the stage propagate, before there were kinds.

    Raises UserError for a folder that holds no dataset.
    """
    directory = Path(folder)
    if not (directory / "dataset_info.json").is_file() and (directory / "dataset" / "dataset_info.json").is_file():
        directory = directory / "dataset"  # the folder of the stage itself
    if not (directory / "dataset_info.json").is_file():
        key = f"config key {where}: " if where else ""
        raise UserError(f"{key}{directory} holds no dataset of a stage; run the stage that writes it first.")
    info = open_builder(directory).info
    settings = dict(info.metadata or {})
    return Derived(
        directory,
        settings.get("kind", PROPAGATED),
        tuple(info.splits),
        soft=("soft",) if settings.get("top_k") else (),
        fingerprint=config_hash({key: value for key, value in settings.items() if key != "label_map"}),
    )


def open_propagated(directory: str | os.PathLike, where: str = "", *, mode: str, steps: Sequence[int]) -> Subset:
    """Opens the records of a propagated dataset that lie the given numbers of steps away, on either side.

    where: as in `open_derived`.
    mode: "jp" or "lp".
    steps: (3,) selects t - 3 and t + 3 only (not accumulated, published), (1, 2, 3) all within 3.

    Raises UserError for a folder that holds no propagated dataset, or one without the mode or one of the steps.
    """
    derived = open_derived(directory, where)
    if derived.kind != PROPAGATED:
        raise UserError(
            f"{derived.directory} holds a dataset of kind {derived.kind!r}, which has no mode and steps; name a stage "
            "of kind propagate."
        )
    if mode not in MODES:
        raise UserError(f"propagated data has no mode {mode!r}.{did_you_mean(mode, MODES)}")
    found, digest = provenance(derived.directory, mode)
    distance = np.abs(found)
    missing = [step for step in steps if step not in distance]
    if missing or not steps:
        raise UserError(
            f"{derived.directory} holds no record {missing[0] if missing else 0} steps away; choose steps from 1 to "
            f"{distance.max()}, or propagate further."
        )
    return Subset(derived.open(mode), np.flatnonzero(np.isin(distance, steps)), fingerprint=digest)


def provenance(directory: Path, mode: str) -> tuple[np.ndarray, str]:
    """Returns the (signed steps of the records of a mode, int32 (n,), digest of the settings).

    directory: of a propagated dataset. Raises UserError if it holds no such records, or the file is damaged.
    """
    path = directory / provenance_file(mode)
    try:
        arrays = read_arrays(path, ("steps", "config"))
    except FileNotFoundError:
        raise UserError(
            f"{directory} holds no records of mode {mode!r}; add it to the modes of the stage propagate."
        ) from None
    except ValueError as error:
        raise UserError(f"{error}; {built_again(directory)}") from None
    return arrays["steps"], str(arrays["config"])


def provenance_file(mode: str) -> str:
    """Returns the name of the file beside the records: their signed steps, int32 (n,), and the settings' digest."""
    return f"provenance-{mode}.npz"


def with_ignored(label_map: LabelMap) -> LabelMap:
    """Returns the map of raw ids with an ignored label, which propagated labels need even if the source has none."""
    label_map = label_map.with_ids()
    labels = label_map.table.labels
    if label_map.ignored_ids:
        return label_map
    number = IGNORE_LABEL if IGNORE_LABEL not in label_map.table.ids else max(label_map.table.ids) + 1
    ignored = Label(number, "ignored", IGNORE_LABEL, (0, 0, 0))
    return dataclasses.replace(label_map, table=ClassTable((*labels, ignored)))
