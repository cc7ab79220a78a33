"""KITTI semantics 2015: 200 labelled and 200 test images of about 375x1242, labels with Cityscapes' ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.about import About
from data_builders.examples import Examples
from segjax.data.classes import class_table
from segjax.data.folders import fingerprint, list_images
from segjax.data.label_map import LabelMap
from segjax.data.splits import division
from segjax.errors import UserError

# Validation images of the three splits released with VPLR; the other 179 train.
RELEASED = {
    "cv0": (1, 5, 11, 29, 35, 49, 57, 68, 72, 82, 93, 115, 119, 130, 145, 154, 156, 167, 169, 189, 198),
    "cv1": (0, 12, 24, 31, 42, 50, 63, 71, 84, 96, 101, 112, 121, 133, 141, 155, 164, 171, 187, 191, 197),
    "cv2": (3, 6, 13, 21, 41, 54, 61, 73, 88, 91, 110, 121, 126, 131, 142, 149, 150, 163, 173, 183, 199),
}
# VPLR's ten splits are not published; these take every tenth image, so that each image validates once
TEN_FOLD = {f"fold{fold}": tuple(range(fold, 200, 10)) for fold in range(10)}


def _divisions() -> dict[str, dict]:
    divisions = {}
    for name, numbers in {**RELEASED, **TEN_FOLD}.items():
        starts = tuple(f"{number:06d}_" for number in numbers)  # includes neighbouring frames, if there are any
        divisions[f"{name}_train"] = division("train", starts=starts, others=True)
        divisions[f"{name}_validation"] = division("train", starts=starts)
    return divisions


ABOUT = About(
    name="kitti",
    title="KITTI semantics",
    homepage="https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015",
    licence="CC BY-NC-SA 3.0",
    classes="kitti",
    size="375x1242",
    disk="0.3 GB",
    archives={"data_semantics.zip": 0},
    images={"train": 200, "test": 200},
    divisions=_divisions(),
    citation="""@article{Alhaija2018IJCV,
  author={Abu Alhaija, Hassan and Mustikovela, Siva and Mescheder, Lars and Geiger, Andreas and Rother, Carsten},
  title={Augmented Reality Meets Computer Vision: Efficient Data Generation for Urban Driving Scenes},
  journal={IJCV}, year={2018}}""",
)
LABEL_MAP = LabelMap(class_table("kitti"), name="the label map of KITTI")


@dataclasses.dataclass(eq=False)
class Config(trees.TreeConfig):
    """Options.

    instances: whether to store the instance maps, which iIoU needs.
    frames_dir: training/image_2 of the scene flow benchmark's multi-view extension, "" for none. Its neighbouring
        frames become records without label.
    neighbours: number of frames before and after a labelled one.
    """

    instances: bool = False
    frames_dir: str = ""
    neighbours: int = 3

    def fingerprint(self) -> str:
        """Returns a fingerprint that includes the files of frames_dir, whose number is not fixed."""
        own = super().fingerprint()
        return own + fingerprint(list_images(self.frames_dir).values()) if self.frames_dir else own


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that copies the published PNGs."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config()]

    def _info(self) -> tfds.core.DatasetInfo:
        return records.published_info(self, ABOUT, LABEL_MAP, instances=self.builder_config.instances)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        base = trees.root(ABOUT, config)
        top = "" if (base / "image_2").is_dir() else "training/"
        maps = (trees.folder(ABOUT, base, f"{top}instance"), "") if config.instances else None
        images = trees.folder(ABOUT, base, f"{top}image_2")
        labels = trees.folder(ABOUT, base, f"{top}semantic")
        splits = {"train": trees.pair(images, labels, instances=maps, parse=parse_stem)}
        if config.frames_dir:
            frames = {parse_stem(path.stem): path for path in list_images(config.frames_dir).values()}
            splits["train"] = trees.with_neighbours(splits["train"], frames, config.neighbours, partial=config.partial)
        if (base / "testing" / "image_2").is_dir():
            splits["test"] = trees.pair(base / "testing" / "image_2", None, parse=parse_stem)
        return trees.generators(self, ABOUT, splits, counted=not config.frames_dir)

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        return Examples(items, LABEL_MAP, instances=to_thousands if self.builder_config.instances else None)


def parse_stem(stem: str) -> tuple[str, int]:
    """Returns (sequence, frame number) of a frame's name: 000031_10 -> ("000031", 10). Raises UserError for others."""
    sequence, _, frame = stem.rpartition("_")
    if not (sequence.isdecimal() and frame.isdecimal()):
        raise UserError(f"{stem!r} is not the name of a KITTI frame such as 000031_10; remove the file")
    return sequence, int(frame)


def to_thousands(published: np.ndarray) -> np.ndarray:
    """Returns KITTI's raw id * 256 + number as Cityscapes' raw id * 1000 + number; for number 0 the raw id alone."""
    ids, numbers = published.astype(np.uint32) >> 8, published & 255
    return np.where(numbers > 0, ids * 1000 + numbers, ids)
