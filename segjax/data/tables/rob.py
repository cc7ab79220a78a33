"""Robust Vision Challenge 2018: one network for Cityscapes, KITTI, WildDash and ScanNet needs 39 classes, the 19
of Cityscapes and then the 20 of ScanNet (as in Kreso et al., "Efficient Ladder-style DenseNets", section 5.4).

Each dataset keeps its raw ids; those of the classes that it lacks begin at 1000 and occur in no mask. ScanNet's people
are not among its 20 classes and stay ignored.
"""

from collections.abc import Iterable

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label
from segjax.data.tables.bdd100k import BDD100K
from segjax.data.tables.cityscapes import CITYSCAPES
from segjax.data.tables.scannet import SCANNET
from segjax.data.tables.wilddash import WILDDASH

_ABSENT = 1000
_DRIVING = CITYSCAPES.num_classes


def _shifted(labels: Iterable[Label]) -> list[Label]:
    """ScanNet's labels as the classes after Cityscapes'."""
    return [x if x.train_id == IGNORE_LABEL else x._replace(train_id=x.train_id + _DRIVING) for x in labels]


def _absent(labels: Iterable[Label]) -> list[Label]:
    return [label._replace(id=label.id + _ABSENT) for label in labels]


ROB_CITYSCAPES = ClassTable((*CITYSCAPES.labels, *_absent(_shifted(SCANNET.classes))))  # and KITTI
ROB_BDD100K = ClassTable((*BDD100K.labels, *_absent(_shifted(SCANNET.classes))))
ROB_WILDDASH = ClassTable((*WILDDASH.labels, *_absent(_shifted(SCANNET.classes))))
ROB_SCANNET = ClassTable((*_absent(CITYSCAPES.classes), *_shifted(SCANNET.labels)))
