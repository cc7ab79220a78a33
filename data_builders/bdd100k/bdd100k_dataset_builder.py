"""BDD100K, semantic segmentation of 10k images: US streets at 720x1280, masks of Cityscapes' 19 train ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from segjax.data.classes import class_table
from segjax.data.label_map import LabelMap
from segjax.data.splits import division

ABOUT = About(
    name="bdd100k",
    title="BDD100K",
    homepage="https://www.vis.xyz/bdd100k/",
    licence="own terms: education, research and not-for-profit purposes",
    classes="bdd100k",
    size="720x1280",
    disk="1.2 GB",
    archives={"bdd100k_images_10k.zip": 0, "bdd100k_sem_seg_labels_trainval.zip": 0, "bdd100k_seg.zip": 0},
    images={"train": 7000, "validation": 1000, "test": 2000},
    divisions={"trainval": division("train+validation")},
    citation="""@inproceedings{Yu2020BDD100K,
  title={BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning},
  author={Yu, Fisher and Chen, Haofeng and Wang, Xin and Xian, Wenqi and Chen, Yingying and Liu, Fangchen and
          Madhavan, Vashisht and Darrell, Trevor},
  booktitle={CVPR}, year={2020}}""",
)
LABEL_MAP = LabelMap(class_table("bdd100k"), name="the label map of BDD100K")
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Copies the published JPEGs and ids; reads the first release (seg/) and the later one (images/10k)."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [trees.TreeConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        return records.published_info(self, ABOUT, LABEL_MAP)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        base = trees.root(ABOUT, self.builder_config)
        base = base / "bdd100k" if (base / "bdd100k").is_dir() else base
        old = (base / "seg").is_dir()
        splits = {}
        for split, name in _FOLDERS.items():
            images = f"seg/images/{name}" if old else f"images/10k/{name}"
            if split == "test":
                if (base / images).is_dir():
                    splits[split] = trees.pair(base / images, None)
                continue
            labels = f"seg/labels/{name}" if old else f"labels/sem_seg/masks/{name}"
            splits[split] = trees.pair(
                trees.folder(ABOUT, base, images),
                trees.folder(ABOUT, base, labels),
                label_suffix=f"_{name}_id" if old else "",
            )
        return trees.generators(self, ABOUT, splits)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from trees.examples(items, LABEL_MAP)
