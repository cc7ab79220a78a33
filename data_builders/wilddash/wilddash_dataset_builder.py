"""WildDash 2: 4256 dash-cam images of hard scenes from all over the world, Cityscapes' ids and five more.

The published masks are COCO panoptic PNGs: the colour of a pixel is the number of its segment (r + 256 g + 65536 b),
and panoptic.json contains the category of each segment. release=1 is that of the Robust Vision Challenge 2018.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_builders import trees
from data_builders.about import About
from data_builders.examples import Examples
from data_builders.published import Folders, PublishedBuilder, folder_splits
from segjax.data.classes import class_table
from segjax.data.image_files import decode_mask, read_bytes
from segjax.data.label_map import LabelMap
from segjax.errors import UserError

ABOUT = About(
    name="wilddash",
    title="WildDash 2",
    homepage="https://wilddash.cc/",
    licence="CC BY-NC 4.0",
    classes="wilddash",
    size="1080x1920",
    disk="3 GB",
    archives={"wd_public_v2p0.zip": 0, "wd_both_02.zip": 0, "wd_val_01.zip": 0, "wd_both_01.zip": 0},
    images={"train": 4256, "test": 812},
    citation="""@inproceedings{Zendel2022WildDash2,
  title={Unifying Panoptic Segmentation for Autonomous Driving},
  author={Zendel, Oliver and Sch{\\"o}rghuber, Matthias and Rainer, Bernhard and Murschitz, Markus and
          Beleznai, Csaba},
  booktitle={CVPR}, year={2022}}""",
)
LABEL_MAP = LabelMap(class_table("wilddash"), name="the label map of WildDash")


@dataclasses.dataclass(eq=False)
class Config(trees.TreeConfig):
    """Options.

    release: 2, or 1 for the images of the Robust Vision Challenge 2018 (validation and test).
    """

    release: int = 2


class Builder(PublishedBuilder):
    """Builder that copies the published images; masks become category ids 0..38."""

    BUILDER_CONFIGS = [Config()]
    about, label_map = ABOUT, LABEL_MAP

    def splits(self, base: Path) -> dict[str, list[trees.Item]]:
        """Returns the files of train (release 1: validation), and of test if it exists.

        Raises UserError for another release, and as `folder_splits` does.
        """
        if self.builder_config.release not in (1, 2):
            raise UserError(f"option release is {self.builder_config.release!r}; WildDash has the releases 1 and 2")
        if self.builder_config.release == 1:
            return _first_release(base)
        public = trees.folder(ABOUT, base, "wd_public_v2p0") if not (base / "panoptic.json").is_file() else base
        labelled = folder_splits(ABOUT, public, {"train": Folders("images", ("panoptic",))})
        self._segments = read_segments(public / "panoptic.json")
        return labelled | folder_splits(ABOUT, base, {"test": Folders("wd_both_02/images")})

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        splits = self.splits(trees.root(ABOUT, self.builder_config))
        return trees.generators(self, ABOUT, splits, counted=self.builder_config.release == 2)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        if self.builder_config.release == 1:
            return Examples(items, LABEL_MAP)
        read = functools.partial(read_panoptic, segments=self._segments)
        return Examples(items, LABEL_MAP, read_label=read)


def _first_release(base: Path) -> dict[str, list[trees.Item]]:
    """Returns the files NAME_100000.png and NAME_100000_labelIds.png, the latter with Cityscapes' ids, by split."""
    folder = trees.folder(ABOUT, base, "wd_val_01")
    items = trees.pair(folder, folder, image_suffix="_100000", label_suffix="_100000_labelIds")
    splits = {"validation": [item._replace(name=item.image.stem) for item in items]}
    return splits | folder_splits(ABOUT, base, {"test": Folders("wd_both_01")})


def read_segments(path: Path) -> dict[str, dict[int, int]]:
    """Returns file name of a mask -> {segment: category}, from panoptic.json. Raises UserError for another content."""
    try:
        annotations = json.loads(read_bytes(path))["annotations"]
        return {x["file_name"]: {s["id"]: s["category_id"] for s in x["segments_info"]} for x in annotations}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is no COCO panoptic file ({error}); copy or download it again") from None


def read_panoptic(path: Path, segments: dict[str, dict[int, int]]) -> np.ndarray:
    """Returns the category ids of a panoptic PNG, (h, w) uint8; 0 for pixels without segment.

    path: of the PNG.
    segments: see `read_segments`.

    Raises UserError for a file or a segment that panoptic.json does not list.
    """
    if path.name not in segments:
        raise UserError(f"panoptic.json does not list {path}; unpack wd_public_v2p0.zip again")
    color = decode_mask(read_bytes(path), str(path), coding="color").astype(np.uint32)
    numbers, where = np.unique(color @ np.array([1, 256, 65536], np.uint32), return_inverse=True)
    category = {0: 0, **segments[path.name]}
    unknown = [int(number) for number in numbers if int(number) not in category]
    if unknown:
        raise UserError(f"{path} holds segments {unknown[:5]} that panoptic.json does not list; unpack both again")
    return np.array([category[int(number)] for number in numbers], np.uint8)[where.reshape(color.shape[:2])]
