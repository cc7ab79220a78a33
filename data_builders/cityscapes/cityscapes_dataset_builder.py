"""Cityscapes: fine and coarse annotations, the 30-frame sequences around labelled frames, the demo video.

Frames are named CITY_SEQUENCE_FRAME; a record's `sequence` is CITY_SEQUENCE and its `frame` the 6-digit number, so a
neighbour is found by arithmetic on the number.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from data_builders.examples import Examples
from segjax.data.classes import class_table
from segjax.data.folders import list_images
from segjax.data.label_map import LabelMap
from segjax.data.splits import division
from segjax.errors import UserError, did_you_mean

# three folds by cities (VPLR, appendix C): of the official validation cities, followed by the others by name, 3 from
# each of the positions 0, 7 and 14; cv0 is the official split
VALIDATION_CITIES = {
    "cv0": ("munster", "lindau", "frankfurt"),
    "cv1": ("darmstadt", "dusseldorf", "erfurt"),
    "cv2": ("monchengladbach", "strasbourg", "stuttgart"),
}
PARTS = {
    "fine": ("train", "validation", "test"),
    "coarse": ("train_extra",),
    "sequence": ("train_sequence", "validation_sequence"),
    "video": ("demo_video",),
}
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_STEM = re.compile(r"^(.+_\d{6})_(\d{6})$")


def _divisions() -> dict[str, dict]:
    divisions = {}
    for end in ("", "_sequence"):  # the same cities with neighbouring frames, which are stored apart
        of = f"train{end}+validation{end}"
        divisions[f"trainval{end}"] = division(of)
        for name, cities in VALIDATION_CITIES.items():
            starts = tuple(f"{city}_" for city in cities)
            divisions[f"{name}_train{end}"] = division(of, starts=starts, others=True)
            divisions[f"{name}_of_train{end}"] = division(f"train{end}", starts=starts, others=True)
            divisions[f"{name}_validation{end}"] = division(of, starts=starts)
    return divisions


ABOUT = About(
    name="cityscapes",
    title="Cityscapes",
    homepage="https://www.cityscapes-dataset.com/downloads/",
    licence="own terms: non-commercial, no redistribution (https://www.cityscapes-dataset.com/license/)",
    classes="cityscapes",
    size="1024x2048",
    disk="11 GB; coarse 44 GB; sequence 324 GB; video 6 GB",
    archives={
        "leftImg8bit_trainvaltest.zip": 0,
        "gtFine_trainvaltest.zip": 0,
        "leftImg8bit_trainextra.zip": 0,
        "gtCoarse.zip": 0,
        "leftImg8bit_sequence_trainvaltest.zip": 0,
        "leftImg8bit_demoVideo.zip": 0,
    },
    images={"train": 2975, "validation": 500, "test": 1525, "train_extra": 19998},
    divisions=_divisions(),
    citation="""@inproceedings{Cordts2016Cityscapes,
  title={The Cityscapes Dataset for Semantic Urban Scene Understanding},
  author={Cordts, Marius and Omran, Mohamed and Ramos, Sebastian and Rehfeld, Timo and Enzweiler, Markus and
          Benenson, Rodrigo and Franke, Uwe and Roth, Stefan and Schiele, Bernt},
  booktitle={CVPR}, year={2016}}""",
)
LABEL_MAP = LabelMap(class_table("cityscapes"), name="the label map of Cityscapes")


@dataclasses.dataclass(eq=False)
class Config(trees.TreeConfig):
    """Options.

    parts: of "fine", "coarse", "sequence" (labelled frames with neighbouring frames) and "video".
    neighbours: number of frames before and after a labelled one.
    instances: whether to store gtFine's instanceIds, which iIoU needs.
    """

    parts: tuple[str, ...] = ("fine",)
    neighbours: int = 3
    instances: bool = False

    def stored(self) -> list[str]:
        """Returns the names of the stored splits. Raises UserError for an unknown part."""
        if not self.parts or isinstance(self.parts, str):
            raise UserError(f"option parts is {self.parts!r}; give a list of {', '.join(PARTS)}")
        for part in self.parts:
            if part not in PARTS:
                raise UserError(f"Cityscapes has no part {part!r}.{did_you_mean(part, PARTS)}")
        return [split for part in PARTS if part in self.parts for split in PARTS[part]]


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that copies the published PNGs; masks contain labelIds 0..33."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config()]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return records.published_info(self, ABOUT, LABEL_MAP, stored=config.stored(), instances=config.instances)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        base = trees.root(ABOUT, config)
        splits = {}
        for split in config.stored():
            if split == "train_extra":
                splits[split] = _pairs(base, "train_extra", "gtCoarse", instances=False)
            elif split.endswith("_sequence"):
                splits[split] = _sequences(base, _FOLDERS[split.removesuffix("_sequence")], config)
            elif split == "demo_video":
                images = trees.folder(ABOUT, base, "leftImg8bit/demoVideo")
                splits[split] = trees.pair(images, None, image_suffix="_leftImg8bit", parse=parse_stem)
            elif split == "test":  # its labels are not published; gtFine/test contains placeholders
                if (base / "leftImg8bit" / "test").is_dir():
                    images = base / "leftImg8bit" / "test"
                    splits[split] = trees.pair(images, None, image_suffix="_leftImg8bit", parse=parse_stem)
            else:
                splits[split] = _pairs(base, _FOLDERS[split], "gtFine", instances=config.instances)
        return trees.generators(self, ABOUT, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        same = (lambda published: published) if self.builder_config.instances else None
        return Examples(items, LABEL_MAP, instances=same)


def parse_stem(stem: str) -> tuple[str, int]:
    """Returns (sequence, frame number) of a frame's name: aachen_000000_000019 -> ("aachen_000000", 19).

    Raises UserError for other names.
    """
    match = _STEM.match(stem)
    if not match:
        raise UserError(f"{stem!r} is not the name of a Cityscapes frame such as aachen_000000_000019; remove the file")
    return match[1], int(match[2])


def _pairs(base: Path, split: str, annotation: str, *, instances: bool) -> list[trees.Item]:
    labels = trees.folder(ABOUT, base, f"{annotation}/{split}")
    return trees.pair(
        trees.folder(ABOUT, base, f"leftImg8bit/{split}"),
        labels,
        image_suffix="_leftImg8bit",
        label_suffix=f"_{annotation}_labelIds",
        instances=(labels, f"_{annotation}_instanceIds") if instances else None,
        parse=parse_stem,
    )


def _sequences(base: Path, split: str, config: Config) -> list[trees.Item]:
    """Returns the labelled frames of a split and their neighbours in leftImg8bit_sequence."""
    files = list_images(trees.folder(ABOUT, base, f"leftImg8bit_sequence/{split}"), suffix="_leftImg8bit")
    frames = {parse_stem(key.rpartition("/")[2]): path for key, path in files.items()}
    labelled = _pairs(base, split, "gtFine", instances=config.instances)
    return trees.with_neighbours(labelled, frames, config.neighbours, partial=config.partial)
