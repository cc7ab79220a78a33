"""PASCAL VOC 2012 segmentation, alone or with the annotations of SBD ("aug": 10582 training images).

The augmented set is all of SBD and VOC's train without VOC's val (Hariharan et al., ICCV 2011). Images that are in
VOC's train too keep VOC's mask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from data_builders.examples import Examples
from segjax.data.classes import class_table
from segjax.data.folders import some
from segjax.data.image_files import decode_mask, read_bytes
from segjax.data.label_map import LabelMap
from segjax.data.splits import division
from segjax.data.text_files import read_text
from segjax.errors import UserError

ABOUT = About(
    name="voc2012",
    title="PASCAL VOC 2012",
    homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    licence="images: terms of Flickr; SBD: research, non-commercial",
    classes="voc2012",
    size="varies, at most 500x500",
    disk="0.4 GB; with SBD 1.3 GB",
    archives={"VOCtrainval_11-May-2012.tar": 1999639040, "benchmark.tgz": 0},
    images={"train": 1464, "validation": 1449, "test": 1456, "sbd": 9118},
    divisions={"trainval": division("train+validation"), "train_aug": division("train+sbd")},
    citation="""@article{Everingham2015VOC,
  title={The PASCAL Visual Object Classes Challenge: A Retrospective},
  author={Everingham, Mark and Eslami, S. M. Ali and Van Gool, Luc and Williams, Christopher K. I. and Winn, John and
          Zisserman, Andrew},
  journal={IJCV}, year={2015}}
@inproceedings{Hariharan2011SBD,
  title={Semantic Contours from Inverse Detectors},
  author={Hariharan, Bharath and Arbel{\\'a}ez, Pablo and Bourdev, Lubomir and Maji, Subhransu and Malik, Jitendra},
  booktitle={ICCV}, year={2011}}""",
)
LABEL_MAP = LabelMap(class_table("voc2012"), name="the label map of VOC 2012")
_LISTS = {"train": "train", "validation": "val", "test": "test"}


@dataclasses.dataclass(eq=False)
class Config(trees.TreeConfig):
    """Options.

    sbd: whether to build the split sbd too, the images that SBD adds to train, from benchmark_RELEASE.
    """

    sbd: bool = False


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that copies the published JPEGs; masks are palette indices of the PNGs, or the .mat files of SBD."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config(), Config(name="aug", sbd=True)]

    def _info(self) -> tfds.core.DatasetInfo:
        stored = ["train", "validation", *(["sbd"] if self.builder_config.sbd else [])]
        return records.published_info(self, ABOUT, LABEL_MAP, stored=stored)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        base = trees.root(ABOUT, self.builder_config)
        voc = trees.folder(ABOUT, base, "VOCdevkit/VOC2012", "VOC2012")
        lists = trees.folder(ABOUT, voc, "ImageSets/Segmentation")
        splits, names = {}, {}
        for split, file in _LISTS.items():
            if split == "test" and not (lists / "test.txt").is_file():
                continue  # published apart from the others
            names[split] = _read_list(lists / f"{file}.txt")
            labels = None if split == "test" else (trees.folder(ABOUT, voc, "SegmentationClass"), ".png")
            splits[split] = _listed(names[split], trees.folder(ABOUT, voc, "JPEGImages"), labels, lists / file)
        if self.builder_config.sbd:
            sbd = trees.folder(ABOUT, base, "benchmark_RELEASE/dataset", "dataset")
            listed = {name for file in ("train.txt", "val.txt") for name in _read_list(sbd / file)}
            added = sorted(listed - set(names["train"]) - set(names["validation"]))
            labels = (trees.folder(ABOUT, sbd, "cls"), ".mat")
            splits["sbd"] = _listed(added, trees.folder(ABOUT, sbd, "img"), labels, sbd / "train")
        return trees.generators(self, ABOUT, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        return Examples(items, LABEL_MAP, read_label=read_label)


def read_label(path: Path) -> np.ndarray:
    """Returns the ids of a palette PNG of VOC or a .mat of SBD, (h, w) uint8. Raises UserError for a damaged file."""
    if path.suffix != ".mat":
        return decode_mask(read_bytes(path), str(path))
    read_bytes(path)  # raises UserError for a missing, unreadable or empty file
    try:
        return np.asarray(scipy.io.loadmat(path)["GTcls"][0, 0]["Segmentation"], np.uint8)
    except Exception as error:  # scipy raises many types for a damaged file
        raise UserError(f"{path} is no segmentation of SBD ({type(error).__name__}); copy it again") from None


def _read_list(path: Path) -> list[str]:
    return read_text(path).split()


def _listed(names: Sequence[str], images: Path, labels: tuple[Path, str] | None, listed_in: Path) -> list[trees.Item]:
    """Returns the records of a list file. Raises UserError if an image or a label is missing."""
    items = [trees.Item(x, images / f"{x}.jpg", labels and labels[0] / f"{x}{labels[1]}") for x in names]
    missing = [path for item in items for path in (item.image, item.label) if path and not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} files that {listed_in}.txt lists are missing ({some(missing)}); "
            f"unpack {' and '.join(ABOUT.archives)} again"
        )
    return items
