"""BDD100K, semantic segmentation of 10k images: US streets at 720x1280, masks of Cityscapes' 19 train ids."""

from __future__ import annotations

from pathlib import Path

from data_builders import trees
from data_builders.about import About
from data_builders.published import Folders, PublishedBuilder, folder_splits
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


class Builder(PublishedBuilder):
    """Builder that copies the published JPEGs and ids, of the first release (seg/) or the later one (images/10k)."""

    about, label_map = ABOUT, LABEL_MAP

    def splits(self, base: Path) -> dict[str, list[trees.Item]]:
        """Returns the files of train, validation, and test if it exists; errors as in `folder_splits`."""
        base = base / "bdd100k" if (base / "bdd100k").is_dir() else base
        if (base / "seg").is_dir():
            folders = {x: Folders(f"seg/images/{x}", (f"seg/labels/{x}",), f"_{x}_id") for x in ("train", "val")}
            test = Folders("seg/images/test")
        else:
            folders = {x: Folders(f"images/10k/{x}", (f"labels/sem_seg/masks/{x}",)) for x in ("train", "val")}
            test = Folders("images/10k/test")
        parts = {"train": folders["train"], "validation": folders["val"], "test": test}
        return folder_splits(ABOUT, base, parts)
