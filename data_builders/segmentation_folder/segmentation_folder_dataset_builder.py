"""Your own images and masks: two folders, paired by name, with a label map.

Masks may be plain ids, palette PNGs (index or colour) or colour-coded. `segjax check_data` finds every problem of such
folders before and writes a label map to start from.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from data_builders.examples import Examples
from segjax.data.folders import Pairs, fingerprint, natural_key, some, split_frame
from segjax.data.image_files import read_bytes
from segjax.data.label_map import LabelMap
from segjax.data.listing import are, shown
from segjax.data.own_splits import Division, Item, choose_splits
from segjax.data.pairing import better_pairs, pair_or_propose
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

    images, masks: folders; a star stands for any folder, as in "data/*/images" and "data/*/masks".
    label_map: JSON file, or the name of a class table ("cityscapes").
    image_prefix, mask_prefix: beginnings of file names before their common part ("img_").
    image_suffix, mask_suffix: ends of file names after their common part ("_leftImg8bit"; ".jpg" selects a type).
    unpaired: images without mask and masks without image: "error"; "skip" ignores them; "unlabelled" keeps such images
        as frames without label.
    lists: {"train": "train.txt", ...}, files with one image per row; further columns are ignored. If it is empty, the
        folders train, val and test, at any depth and in any usual spelling, are the splits, or else random parts.
    splits: "auto"; "folders" refuses random parts; "random" takes no notice of what folders are called.
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
    splits: str = "auto"
    image_prefix: str = ""
    mask_prefix: str = ""

    # options that older builds had not: with these values they do not name the build
    added = types.MappingProxyType({"splits": "auto", "image_prefix": "", "mask_prefix": ""})

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
        pairs, division = self.divide()
        files = fingerprint(path.absolute() for path in (*pairs.files, *lists))
        mark = division.mark if pairs.plain else f"\npairs {[key for key, _, _ in pairs.pairs]}{division.mark}"
        return files + str(self.open_label_map().to_dict()) + mark

    def divide(self) -> tuple[Pairs, Division]:
        """Returns the pairs of the folders, and their splits. Raises UserError as `choose_splits` does."""
        names = {key: getattr(self, key) for key in ("image_prefix", "image_suffix", "mask_prefix", "mask_suffix")}
        pairs = pair_or_propose(self.images, self.masks, **names)
        division = choose_splits(
            _items(pairs, self, names),
            lists=self.lists,
            prefix=self.image_prefix,
            suffix=self.image_suffix,
            validation=self.validation,
            test=self.test,
            seed=self.seed,
            by_sequence=self.by_sequence,
            how=self.splits,
        )
        return pairs, division


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that copies PNG and JPEG images and stores others as PNG, and masks as PNGs of raw ids."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config()]

    def _info(self) -> tfds.core.DatasetInfo:
        label_map = self.builder_config.open_label_map().with_ids()
        # the description is part of dataset_info.json: another docstring would change the bytes of every build
        return records.dataset_info(self, description=__doc__, label_map=label_map)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        pairs, division = self.builder_config.divide()
        for line in (f"Splits: {division.describe()}", *_left_out(pairs, self.builder_config)):
            print(line, file=sys.stderr, flush=True)  # beside the lines of segjax.data.builds
        return {name: self._generate_examples(items) for name, items in division.splits.items()}

    def _generate_examples(self, items: Sequence[Item]) -> Examples:
        files = [trees.Item(item.key, item.image, item.mask, *split_frame(item.key)) for item in items]
        return Examples(files, self.builder_config.open_label_map())


def _items(pairs: Pairs, config: Config, names: Mapping[str, str]) -> list[Item]:
    lonely = [shown(path) for _, path in (*pairs.images_without_mask, *pairs.masks_without_image)]
    if config.unpaired == "error" and lonely:
        raise UserError(
            f"{len(pairs.images_without_mask)} images in {config.images} have no mask and "
            f"{len(pairs.masks_without_image)} masks in {config.masks} no image ({some(lonely)}); "
            f"{_remedy(pairs, config, names, 'add what is missing, give image_suffix or mask_suffix')}, "
            "or set unpaired to 'skip' or 'unlabelled'"
        )
    items = [Item(key, image, mask) for key, image, mask in pairs.pairs]
    if config.unpaired == "unlabelled":
        items += [Item(key, image, None) for key, image in pairs.images_without_mask]
        items.sort(key=lambda item: natural_key(item.key))
    if not items:
        remedy = _remedy(pairs, config, names, "give mask_suffix")
        raise UserError(f"no image in {config.images} has a mask of the same name in {config.masks}; {remedy}")
    return items


def _remedy(pairs: Pairs, config: Config, names: Mapping[str, str], other: str) -> str:
    proposal = better_pairs(pairs, config.images, config.masks, **names)
    return proposal.sentence() if proposal else other


def _left_out(pairs: Pairs, config: Config) -> list[str]:
    """Returns one sentence for each kind of files that become no record."""
    lonely = {"mask": pairs.masks_without_image}
    if config.unpaired != "unlabelled":
        lonely["image"] = pairs.images_without_mask
    skipped = [
        f"{are(len(files), what)} skipped for lack of a partner: {some(shown(path) for _, path in files)}"
        for what, files in lonely.items()
        if files
    ]
    return [*pairs.ignored.sentences(), *skipped]
