"""BDD100K (Yu et al., CVPR 2020), semantic segmentation: its masks hold the 19 train ids of Cityscapes, 255 = ignored.

Raw ids equal train ids, so this table is also the map from BDD100K to Cityscapes.
"""

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label
from segjax.data.tables.cityscapes import CITYSCAPES

BDD100K = ClassTable(
    (
        *(label._replace(id=label.train_id) for label in CITYSCAPES.classes),
        Label(255, "unlabeled", IGNORE_LABEL, (0, 0, 0)),
    )
)
