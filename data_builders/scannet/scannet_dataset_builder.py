"""ScanNet, 2D benchmark: every 100th frame of indoor RGB-D scans, 20 classes of NYUv2's 40 labels.

Frames are named SCENE_FRAME, as the benchmark's server requires; a record's `sequence` is the scene. Two trees can be
read: scannet_frames_25k, and that of the devkit of the Robust Vision Challenge 2018 (train/, test/).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_builders import trees
from data_builders.about import About
from data_builders.examples import Examples
from data_builders.published import PublishedBuilder
from segjax.data.classes import class_table
from segjax.data.folders import natural_key, some
from segjax.data.label_map import LabelMap
from segjax.data.splits import division
from segjax.data.text_files import read_text
from segjax.errors import UserError, did_you_mean

ABOUT = About(
    name="scannet",
    title="ScanNet",
    homepage="http://www.scan-net.org/",
    licence="own terms of use: non-commercial, by agreement",
    classes="scannet",
    size="968x1296",
    disk="6 GB",
    archives={"scannet_frames_25k.zip": 0, "scannet_frames_test.zip": 0},
    images={"train": 19466, "validation": 5436, "test": 2135},
    divisions={"trainval": division("train+validation")},
    citation="""@inproceedings{Dai2017ScanNet,
  title={ScanNet: Richly-annotated 3D Reconstructions of Indoor Scenes},
  author={Dai, Angela and Chang, Angel X. and Savva, Manolis and Halber, Maciej and Funkhouser, Thomas and
          Nie{\\ss}ner, Matthias},
  booktitle={CVPR}, year={2017}}""",
)
LABEL_MAP = LabelMap(class_table("scannet"), name="the label map of ScanNet")
LISTS = {
    "v2": ("scannetv2_train.txt", "scannetv2_val.txt"),
    "v1": ("scannet_train.txt", "scannetv1_val.txt"),  # the scenes of the Robust Vision Challenge 2018
}
_LISTS_FROM = "https://github.com/ScanNet/ScanNet/tree/master/Tasks/Benchmark"
_SCENE = re.compile(r"^scene\d{4}_\d{2}$")


@dataclasses.dataclass(eq=False)
class Config(trees.TreeConfig):
    """Options.

    lists: "v2" or "v1", the lists of scenes for train and validation; their files are in the folder of the frames.
    """

    lists: str = "v2"


class Builder(PublishedBuilder):
    """Builder that copies the published JPEGs; masks contain NYUv2's labels 0..40, enlarged to the image's size."""

    BUILDER_CONFIGS = [Config()]
    about, label_map = ABOUT, LABEL_MAP

    def splits(self, base: Path) -> dict[str, list[trees.Item]]:
        """Returns the files of train and validation by the lists of scenes, and of test if it exists.

        Raises UserError for unknown lists, missing files and, unless partial, missing scenes.
        """
        config = self.builder_config
        if config.lists not in LISTS:
            raise UserError(f"option lists is {config.lists!r}.{did_you_mean(config.lists, LISTS)}")
        frames = trees.folder(ABOUT, base, "scannet_frames_25k", "train")
        there = _scenes(frames)
        splits = {}
        for split, file in zip(("train", "validation"), LISTS[config.lists]):
            wanted = _read_scenes(base / file)
            missing = [name for name in wanted if name not in there]
            if missing and not config.partial:
                raise UserError(
                    f"{frames} lacks {len(missing)} of the {len(wanted)} scenes that {base / file} lists "
                    f"({some(missing)}); unpack scannet_frames_25k.zip again, or set partial=True"
                )
            splits[split] = [item for name in wanted if name in there for item in _frames(there[name], labelled=True)]
        for name in ("scannet_frames_test", "test"):
            if (base / name).is_dir():
                scenes = _scenes(base / name).values()
                splits["test"] = [item for scene in scenes for item in _frames(scene, labelled=False)]
                break
        return splits

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        splits = self.splits(trees.root(ABOUT, config))
        return trees.generators(self, ABOUT, splits, counted=config.lists == "v2")

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        return Examples(items, LABEL_MAP, enlarge=True)


def _scenes(folder: Path) -> dict[str, Path]:
    """Returns name of a scene -> folder, in natural order. Raises UserError if there is none."""
    found = [path for path in folder.iterdir() if path.is_dir() and _SCENE.match(path.name)]
    if not found:
        raise UserError(f"{folder} holds no scene such as scene0000_00; unpack scannet_frames_25k.zip again")
    return {path.name: path for path in sorted(found, key=lambda path: natural_key(path.name))}


def _frames(scene: Path, *, labelled: bool) -> list[trees.Item]:
    """Returns the frames of a scene: color/000100.jpg and label/000100.png are scene0000_00_000100.

    Raises UserError for other names, and images or labels without partner.
    """

    def parse(stem: str) -> tuple[str, int]:
        if not stem.isdecimal():
            raise UserError(f"{scene / 'color' / stem} is not named by the number of its frame; remove the file")
        return scene.name, int(stem)

    labels = trees.folder(ABOUT, scene, "label") if labelled else None
    items = trees.pair(trees.folder(ABOUT, scene, "color"), labels, parse=parse)
    return [item._replace(name=f"{scene.name}_{item.frame:06d}") for item in items]


def _read_scenes(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"the list of scenes {path} is missing; copy {path.name} there from {_LISTS_FROM}")
    names = read_text(path).split()
    for name in names:
        if not _SCENE.match(name):
            raise UserError(f"{path} lists {name!r}, which is no scene such as scene0000_00; download it again")
    return names
