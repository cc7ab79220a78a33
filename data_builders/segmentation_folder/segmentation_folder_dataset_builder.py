"""Your own images and masks: two folders, paired by name, with a label map.

Masks may be plain ids, palette PNGs (index or colour) or colour-coded. `segjax check_data` finds every problem of such
folders before and writes a label map to start from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from data_builders.examples import Examples
from data_builders.segmentation_folder.splits import Item, choose_splits
from segjax.data.folders import Pairs, fingerprint, list_images, natural_key, pair_files, some, split_frame
from segjax.data.image_files import read_bytes
from segjax.data.label_map import LabelMap
from segjax.errors import UserError, did_you_mean

ABOUT = About(
    name="segmentation_folder",
    title="Your own images and masks",
    homepage="",
    licence="yours",
    classes="",
    size="any",
    disk="as much as your files",
)
_UNPAIRED = ("error", "skip", "unlabelled")


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """Options: the files and their splits.

    images, masks: folders.
    label_map: JSON file, or the name of a class table ("cityscapes").
    image_suffix, mask_suffix: ends of file names after their common part ("_leftImg8bit").
    unpaired: images without mask and masks without image: "error"; "skip" ignores them; "unlabelled" keeps such images
        as frames without label.
    lists: {"train": "train.txt", ...}, files with one image per row; further columns are ignored. If it is empty, the
        subfolders train, val (or validation) and test of both folders are the splits, or else random parts.
    validation, test: shares of the images for random parts.
    seed: of random parts.
    by_sequence: whether random parts keep the frames of a video together.
    """

    name: str = "default"
    images: str = ""
    masks: str = ""
    label_map: str = ""
    image_suffix: str = ""
    mask_suffix: str = ""
    unpaired: str = "error"
    lists: dict[str, str] = dataclasses.field(default_factory=dict)
    validation: float = 0.2
    test: float = 0.0
    seed: int = 0
    by_sequence: bool = False

    def open_label_map(self) -> LabelMap:
        """Returns the label map of the masks. Raises UserError if it is missing or wrong."""
        if not self.label_map:
            raise UserError(
                "data set segmentation_folder needs the option label_map: a JSON file (`segjax check_data` writes one) "
                "or the name of a class table"
            )
        return LabelMap.open(self.label_map)

    def fingerprint(self) -> str:
        """Returns a fingerprint of all images, masks, lists and the label map. Raises UserError for wrong options."""
        for key in ("images", "masks"):
            if not getattr(self, key):
                raise UserError(f"data set segmentation_folder needs the option {key}: the folder of the {key}")
        if self.unpaired not in _UNPAIRED:
            raise UserError(f"option unpaired is {self.unpaired!r}.{did_you_mean(self.unpaired, _UNPAIRED)}")
        lists = [Path(path).expanduser() for path in self.lists.values()]
        for path in lists:
            read_bytes(path)
        files = [*list_images(self.images, suffix=self.image_suffix).values()]
        files += [*list_images(self.masks, suffix=self.mask_suffix).values(), *lists]
        return fingerprint(path.absolute() for path in files) + str(self.open_label_map().to_dict())


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that copies PNG and JPEG images and stores others as PNG, and masks as PNGs of raw ids."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config()]

    def _info(self) -> tfds.core.DatasetInfo:
        label_map = self.builder_config.open_label_map().with_ids()
        # the description is part of dataset_info.json: another docstring would change the bytes of every build
        return records.dataset_info(self, description=__doc__, label_map=label_map)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        pairs = pair_files(
            config.images, config.masks, image_suffix=config.image_suffix, mask_suffix=config.mask_suffix
        )
        splits = choose_splits(
            _items(pairs, config),
            lists=config.lists,
            suffix=config.image_suffix,
            validation=config.validation,
            test=config.test,
            seed=config.seed,
            by_sequence=config.by_sequence,
        )
        return {name: self._generate_examples(items) for name, items in splits.items()}

    def _generate_examples(self, items: Sequence[Item]) -> Examples:
        files = [trees.Item(item.key, item.image, item.mask, *split_frame(item.key)) for item in items]
        return Examples(files, self.builder_config.open_label_map())


def _items(pairs: Pairs, config: Config) -> list[Item]:
    lonely = [path for _, path in (*pairs.images_without_mask, *pairs.masks_without_image)]
    if config.unpaired == "error" and lonely:
        raise UserError(
            f"{len(pairs.images_without_mask)} images in {config.images} have no mask and "
            f"{len(pairs.masks_without_image)} masks in {config.masks} no image ({some(lonely)}); add what is missing, "
            "give image_suffix or mask_suffix, or set unpaired to 'skip' or 'unlabelled'"
        )
    items = [Item(key, image, mask) for key, image, mask in pairs.pairs]
    if config.unpaired == "unlabelled":
        items += [Item(key, image, None) for key, image in pairs.images_without_mask]
        items.sort(key=lambda item: natural_key(item.key))
    if not items:
        raise UserError(f"no image in {config.images} has a mask of the same name in {config.masks}; give mask_suffix")
    return items
