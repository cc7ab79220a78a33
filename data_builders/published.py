"""Base of the builders of published trees: a builder names its folders, all else is here."""

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
    """The folders of a split.

    images: folder of the images.
    labels: possible folders of the labels, of which the first that exists is used; () = the split has no labels, and
        may be missing.
    label_suffix: of label files, after the name of the image.
    """

    images: str
    labels: tuple[str, ...] = ()
    label_suffix: str = ""


class PublishedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builder that copies published images, and labels as raw ids."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list] = [trees.TreeConfig()]
    about: ClassVar[About]
    label_map: ClassVar[LabelMap]

    def splits(self, base: Path) -> Mapping[str, Sequence[trees.Item]]:
        """Returns split -> files of its records; base: folder of the published files. Raises UserError if any lack."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return records.published_info(self, self.about, self.label_map)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        splits = self.splits(trees.root(self.about, self.builder_config))
        return trees.generators(self, self.about, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        return Examples(items, self.label_map)


def folder_splits(about: About, base: Path, folders: Mapping[str, Folders]) -> dict[str, list[trees.Item]]:
    """Returns split -> files of its records, for folders in which image and label have the same name.

    about: for messages.
    base: folder of the published files.
    folders: by split.

    Raises UserError for missing folders, and images or labels without partner.
    """
    splits = {}
    for split, (images, labels, suffix) in folders.items():
        if labels:
            at = trees.folder(about, base, *labels)
            splits[split] = trees.pair(trees.folder(about, base, images), at, label_suffix=suffix)
        elif (base / images).is_dir():
            splits[split] = trees.pair(base / images, None)
    return splits
