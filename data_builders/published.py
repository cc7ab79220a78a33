"""What the builders of published trees have in common: a builder says where its folders are, the rest is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from data_builders.examples import Examples
from segjax.data.label_map import LabelMap


class Folders(NamedTuple):
    """The folders of a split. labels: the first that is there; () = the split has no labels and may be missing."""

    images: str
    labels: tuple[str, ...] = ()
    label_suffix: str = ""


class PublishedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Copies published images, and labels as raw ids."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list] = [trees.TreeConfig()]
    about: ClassVar[About]
    label_map: ClassVar[LabelMap]

    def splits(self, base: Path) -> Mapping[str, Sequence[trees.Item]]:
        """split -> the files of its records, found below the folder of the published files."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return records.published_info(self, self.about, self.label_map)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        splits = self.splits(trees.root(self.about, self.builder_config))
        return trees.generators(self, self.about, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        return Examples(items, self.label_map)


def folder_splits(about: About, base: Path, folders: Mapping[str, Folders]) -> dict[str, list[trees.Item]]:
    """The records of folders of equal names."""
    splits = {}
    for split, (images, labels, suffix) in folders.items():
        if labels:
            at = trees.folder(about, base, *labels)
            splits[split] = trees.pair(trees.folder(about, base, images), at, label_suffix=suffix)
        elif (base / images).is_dir():
            splits[split] = trees.pair(base / images, None)
    return splits
