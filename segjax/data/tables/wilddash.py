"""WildDash 2 (Zendel et al., CVPR 2022): the ids of Cityscapes and five more, trained as the 19 classes of Cityscapes.

By Cityscapes' definitions a van is a car, a pickup truck a truck, and road markings are road; billboards and street
lights belong to no class.
"""

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label
from segjax.data.tables.cityscapes import CITYSCAPES

_MORE = (
    Label(34, "pickup-truck", 14, (40, 0, 100)),
    Label(35, "van", 13, (0, 40, 120)),
    Label(36, "billboard", IGNORE_LABEL, (174, 64, 67)),
    Label(37, "street-light", IGNORE_LABEL, (210, 170, 100)),
    Label(38, "road-marking", 0, (196, 176, 128)),
)

WILDDASH = ClassTable((*CITYSCAPES.labels, *_MORE))
