"""The section `dataset` of a recipe: a dataset, its splits, and how a split is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.data import TfdsSource, open_source
from segjax.files import plain
from segjax.stages.config.keys import check_keys

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The section `dataset`.

    name: of a builder, or the folder of a built dataset.
    options: of its builder.
    splits: "train", "validation", "test" -> name of a split, "" for none.
    data_dir: folder of built datasets, "" for the default.
    label_map: another map of the same raw ids, "" for the dataset's own.
    settings: the section as plain data, for checkpoints and reports.
    """

    name: str
    options: Mapping[str, Any]
    splits: Mapping[str, str]
    data_dir: str
    label_map: Any
    settings: Mapping[str, Any]

    def open(
        self, split: str, *, labelled_only: bool = True, fields: Sequence[str] = (), frames: bool = False
    ) -> TfdsSource:
        """Opens the records of a split.

        split: "train", "validation", "test", or a split's own name.
        labelled_only, fields, frames: see `TfdsSource`.

        Raises UserError as `open_source` does.
        """
        return open_source(
            self.name,
            self.splits.get(split, split),
            data_dir=self.data_dir or None,
            builder_options={key: value for key, value in self.options.items() if value != ""},
            label_map=self.label_map or None,
            labelled_only=labelled_only,
            fields=tuple(fields),
            frames=frames,
        )


def read_dataset(settings: Mapping[str, Any], where: str) -> Dataset:
    """Reads a section `dataset`. Raises UserError for an unknown key and a missing name."""
    settings = plain(settings)
    check_keys(settings, {"name", "options", *SPLITS, "data_dir", "label_map"}, where=where, required=["name"])
    return Dataset(
        name=settings["name"],
        options=settings.get("options", {}),
        splits={split: settings[split] for split in SPLITS if split in settings},
        data_dir=settings.get("data_dir", ""),
        label_map=settings.get("label_map", ""),
        settings=settings,
    )


def read_own_dataset(settings: Mapping[str, Any], where: str) -> Dataset | None:
    """Reads the section `dataset` of a stage, None if it has none; errors as in `read_dataset`."""
    return read_dataset(settings["dataset"], f"{where}.dataset") if settings.get("dataset") else None
