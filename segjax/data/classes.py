"""Class tables of published datasets by name; the tables themselves are in `tables`, one file per dataset."""

from __future__ import annotations

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label
from segjax.data.tables.ade20k import ADE20K
from segjax.data.tables.bdd100k import BDD100K
from segjax.data.tables.camvid import BDD100K_TO_CAMVID, CAMVID, CAMVID_32, CITYSCAPES_TO_CAMVID
from segjax.data.tables.cityscapes import CITYSCAPES
from segjax.data.tables.mapillary import MAPILLARY, MAPILLARY_TO_CITYSCAPES
from segjax.data.tables.rob import ROB_BDD100K, ROB_CITYSCAPES, ROB_SCANNET, ROB_WILDDASH
from segjax.data.tables.scannet import SCANNET
from segjax.data.tables.voc2012 import VOC2012
from segjax.data.tables.wilddash import WILDDASH
from segjax.errors import UserError, did_you_mean

__all__ = ["CLASSES", "IGNORE_LABEL", "ClassTable", "Label", "class_table"]

CLASSES: dict[str, ClassTable] = {
    "cityscapes": CITYSCAPES,
    "camvid": CAMVID,
    "camvid_32": CAMVID_32,  # the 32 published labels, merged into the 11 classes
    "kitti": CITYSCAPES,
    "mapillary": MAPILLARY,
    "mapillary_to_cityscapes": MAPILLARY_TO_CITYSCAPES,
    "bdd100k": BDD100K,
    "bdd100k_to_cityscapes": BDD100K,  # its masks hold Cityscapes' train ids
    "voc2012": VOC2012,
    "ade20k": ADE20K,
    "wilddash": WILDDASH,
    "scannet": SCANNET,
    "rob_cityscapes": ROB_CITYSCAPES,  # 39 classes: Cityscapes' and ScanNet's
    "rob_kitti": ROB_CITYSCAPES,
    "rob_bdd100k": ROB_BDD100K,  # and the synthetic street, whose masks hold train ids too
    "rob_wilddash": ROB_WILDDASH,
    "rob_scannet": ROB_SCANNET,
    "cityscapes_to_camvid": CITYSCAPES_TO_CAMVID,  # 11 classes
    "kitti_to_camvid": CITYSCAPES_TO_CAMVID,
    "bdd100k_to_camvid": BDD100K_TO_CAMVID,
    "synthetic_street_to_camvid": BDD100K_TO_CAMVID,
}


def class_table(name: str) -> ClassTable:
    """Returns the class table of a dataset. Raises UserError with the nearest name for an unknown one."""
    if name not in CLASSES:
        raise UserError(f"there is no class table {name!r}.{did_you_mean(name, CLASSES)}")
    return CLASSES[name]
