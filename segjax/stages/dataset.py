"""The section `dataset` of a recipe: a dataset, its splits, and how a split is opened.

A dataset is built by a builder, lies in a folder, or is written by an earlier stage of the run, in this order: a name
of all three is the builder's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.data import LabelMap, TfdsSource, dataset_names, open_source
from segjax.data.builds import stored_label_map
from segjax.data.derived import open_derived
from segjax.data.resized import Resize, Resized, read_resize
from segjax.files import plain
from segjax.stages.config.keys import check_keys

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The section `dataset`.

    name: of a builder, the folder of a built dataset, or an earlier stage that writes one.
    options: of its builder.
    splits: "train", "validation", "test" -> name of a split, "" for none.
    data_dir: folder of built datasets, "" for the default.
    label_map: another map of the same raw ids, "" for the dataset's own.
    resize: size that images and labels are read at, None for their own.
    settings: the section as plain data, for checkpoints and reports.
    where: its config key.
    folder: of the dataset that the stage `name` writes; None for any other dataset.
    """

    name: str
    options: Mapping[str, Any]
    splits: Mapping[str, str]
    data_dir: str
    label_map: Any
    settings: Mapping[str, Any]
    where: str = "dataset"
    folder: Path | None = None
    resize: Resize | None = None

    @property
    def is_built(self) -> bool:
        """Whether the name is that of a builder, or of a folder with a built dataset."""
        return self.name in dataset_names() or (Path(self.name) / "dataset_info.json").is_file()

    def open(
        self, split: str, *, labelled_only: bool = True, fields: Sequence[str] = (), frames: bool = False
    ) -> TfdsSource | Resized:
        """Opens the records of a split, at the size that `resize` says.

        split: "train", "validation", "test", or a split's own name.
        labelled_only, fields, frames: see `TfdsSource`.

        Raises UserError as `open_source` does, and if the stage has not written the dataset yet.
        """
        source = open_source(
            self.name if self.folder is None else str(open_derived(self.folder, f"{self.where}.name").directory),
            self.splits.get(split, split),
            data_dir=self.data_dir or None,
            builder_options={key: value for key, value in self.options.items() if value != ""},
            label_map=self.label_map or None,
            labelled_only=labelled_only,
            fields=tuple(fields),
            frames=frames,
        )
        return source if self.resize is None else Resized(source, self.resize)

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes, () if they are not known before the dataset is built or written.

        Raises UserError for a label map that cannot be read.
        """
        if self.label_map:
            return LabelMap.open(self.label_map).class_names
        label_map = stored_label_map(self.name, self.options)
        return label_map.class_names if label_map else ()

    def __str__(self) -> str:
        return self.name + (f" (resized {self.resize})" if self.resize else "")


def read_dataset(settings: Mapping[str, Any], where: str) -> Dataset:
    """Reads a section `dataset`. Raises UserError for an unknown key, a missing name, and a wrong size."""
    settings = plain(settings)
    known = {"name", "options", *SPLITS, "data_dir", "label_map", "resize"}
    check_keys(settings, known, where=where, required=["name"])
    return Dataset(
        name=settings["name"],
        options=settings.get("options", {}),
        splits={split: settings[split] for split in SPLITS if split in settings},
        data_dir=settings.get("data_dir", ""),
        label_map=settings.get("label_map", ""),
        settings=settings,
        where=where,
        resize=read_resize(settings.get("resize"), f"{where}.resize"),
    )


def read_own_dataset(settings: Mapping[str, Any], where: str) -> Dataset | None:
    """Reads the section `dataset` of a stage, None if it has none; errors as in `read_dataset`."""
    return read_dataset(settings["dataset"], f"{where}.dataset") if settings.get("dataset") else None


def datasets_of(options: Any) -> Iterator[Dataset]:
    """Yields the datasets in the options of a stage, however deep they lie in dataclasses, mappings and sequences."""
    if isinstance(options, Dataset):
        yield options
    else:
        for part in _parts(options).values():
            yield from datasets_of(part)


def with_folders(options: Any, folders: Mapping[str, Path]) -> Any:
    """Returns the options of a stage, in which datasets that earlier stages write have their folder.

    options: as in `datasets_of`.
    folders: stage -> folder of its dataset.
    """
    if isinstance(options, Dataset):
        written = options.name in folders and not options.is_built
        return dataclasses.replace(options, folder=folders[options.name]) if written else options
    parts = _parts(options)
    changed = {key: new for key, part in parts.items() if (new := with_folders(part, folders)) is not part}
    if not changed:
        return options
    if dataclasses.is_dataclass(options):
        return dataclasses.replace(options, **changed)
    return {**parts, **changed} if isinstance(options, Mapping) else type(options)({**parts, **changed}.values())


def _parts(options: Any) -> dict[Any, Any]:
    """Returns what a dataclass, a mapping or a sequence consists of, by name, key or number; {} for anything else."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    if isinstance(options, Mapping):
        return dict(options)
    return dict(enumerate(options)) if type(options) in (tuple, list) else {}
