"""Mapillary Vistas (Neuhold et al., ICCV 2017), research edition v1.2: 65 classes and 65 = unlabeled; id = train id.

The dataset lists 66 labels. The last one, Unlabeled, is neither trained nor scored here. VPLR (section 4.1) also counts
65 classes; CSST (section 4.6.2) counts 66, with Unlabeled.
"""

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label
from segjax.data.tables.cityscapes import CITYSCAPES

_NAMES_AND_COLORS = (
    ("Bird", (165, 42, 42)),
    ("Ground Animal", (0, 192, 0)),
    ("Curb", (196, 196, 196)),
    ("Fence", (190, 153, 153)),
    ("Guard Rail", (180, 165, 180)),
    ("Barrier", (90, 120, 150)),
    ("Wall", (102, 102, 156)),
    ("Bike Lane", (128, 64, 255)),
    ("Crosswalk - Plain", (140, 140, 200)),
    ("Curb Cut", (170, 170, 170)),
    ("Parking", (250, 170, 160)),
    ("Pedestrian Area", (96, 96, 96)),
    ("Rail Track", (230, 150, 140)),
    ("Road", (128, 64, 128)),
    ("Service Lane", (110, 110, 110)),
    ("Sidewalk", (244, 35, 232)),
    ("Bridge", (150, 100, 100)),
    ("Building", (70, 70, 70)),
    ("Tunnel", (150, 120, 90)),
    ("Person", (220, 20, 60)),
    ("Bicyclist", (255, 0, 0)),
    ("Motorcyclist", (255, 0, 100)),
    ("Other Rider", (255, 0, 200)),
    ("Lane Marking - Crosswalk", (200, 128, 128)),
    ("Lane Marking - General", (255, 255, 255)),
    ("Mountain", (64, 170, 64)),
    ("Sand", (230, 160, 50)),
    ("Sky", (70, 130, 180)),
    ("Snow", (190, 255, 255)),
    ("Terrain", (152, 251, 152)),
    ("Vegetation", (107, 142, 35)),
    ("Water", (0, 170, 30)),
    ("Banner", (255, 255, 128)),
    ("Bench", (250, 0, 30)),
    ("Bike Rack", (100, 140, 180)),
    ("Billboard", (220, 220, 220)),
    ("Catch Basin", (220, 128, 128)),
    ("CCTV Camera", (222, 40, 40)),
    ("Fire Hydrant", (100, 170, 30)),
    ("Junction Box", (40, 40, 40)),
    ("Mailbox", (33, 33, 33)),
    ("Manhole", (100, 128, 160)),
    ("Phone Booth", (142, 0, 0)),
    ("Pothole", (70, 100, 150)),
    ("Street Light", (210, 170, 100)),
    ("Pole", (153, 153, 153)),
    ("Traffic Sign Frame", (128, 128, 128)),
    ("Utility Pole", (0, 0, 80)),
    ("Traffic Light", (250, 170, 30)),
    ("Traffic Sign (Back)", (192, 192, 192)),
    ("Traffic Sign (Front)", (220, 220, 0)),
    ("Trash Can", (140, 140, 20)),
    ("Bicycle", (119, 11, 32)),
    ("Boat", (150, 0, 255)),
    ("Bus", (0, 60, 100)),
    ("Car", (0, 0, 142)),
    ("Caravan", (0, 0, 90)),
    ("Motorcycle", (0, 0, 230)),
    ("On Rails", (0, 80, 100)),
    ("Other Vehicle", (128, 64, 64)),
    ("Trailer", (0, 0, 110)),
    ("Truck", (0, 0, 70)),
    ("Wheeled Slow", (0, 0, 192)),
    ("Car Mount", (32, 32, 32)),
    ("Ego Vehicle", (120, 10, 10)),
    ("Unlabeled", (0, 0, 0)),
)

MAPILLARY = ClassTable(
    tuple(
        Label(index, name, index if name != "Unlabeled" else IGNORE_LABEL, color)
        for index, (name, color) in enumerate(_NAMES_AND_COLORS)
    )
)

# Class of Cityscapes <- labels of Mapillary by Cityscapes' definitions; what it would call static, dynamic, ground,
# parking, guard rail, bridge, tunnel, caravan or trailer is ignored there and here.
TO_CITYSCAPES = {
    "road": (
        "Road",
        "Bike Lane",
        "Crosswalk - Plain",
        "Service Lane",
        "Lane Marking - Crosswalk",
        "Lane Marking - General",
        "Manhole",
        "Pothole",
    ),
    "sidewalk": ("Sidewalk", "Curb", "Curb Cut", "Pedestrian Area"),
    "building": ("Building",),
    "wall": ("Wall",),
    "fence": ("Fence",),
    "pole": ("Pole", "Utility Pole"),
    "traffic light": ("Traffic Light",),
    "traffic sign": ("Traffic Sign (Front)",),
    "vegetation": ("Vegetation",),
    "terrain": ("Terrain", "Sand"),
    "sky": ("Sky",),
    "person": ("Person",),
    "rider": ("Bicyclist", "Motorcyclist", "Other Rider"),
    "car": ("Car",),
    "truck": ("Truck",),
    "bus": ("Bus",),
    "train": ("On Rails",),
    "motorcycle": ("Motorcycle",),
    "bicycle": ("Bicycle",),
}


def _to_cityscapes() -> ClassTable:
    """Raw ids of Mapillary, classes of Cityscapes; the first label of a class is called and coloured as Cityscapes'."""
    by_name = {label.name: label for label in MAPILLARY.labels}
    labels = []
    for target in CITYSCAPES.classes:
        for position, name in enumerate(TO_CITYSCAPES[target.name]):
            label = by_name.pop(name)._replace(train_id=target.train_id)
            labels.append(label if position else label._replace(name=target.name, color=target.color))
    return ClassTable((*labels, *(label._replace(train_id=IGNORE_LABEL) for label in by_name.values())))


MAPILLARY_TO_CITYSCAPES = _to_cityscapes()
