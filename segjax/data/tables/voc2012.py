"""PASCAL VOC 2012 (Everingham et al., IJCV 2015): 20 objects and the background; 255 is the outline of objects."""

from segjax.data.class_table import IGNORE_LABEL, ClassTable, Label

_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def color(index: int) -> tuple[int, int, int]:
    """Colour of a palette index 0..255: bits 0, 3, 6 of the index are the high bits of red, 1, 4, 7 of green, ..."""
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return tuple(channels)


VOC2012 = ClassTable(
    (
        *(Label(index, name, index, color(index)) for index, name in enumerate(_NAMES)),
        Label(255, "void", IGNORE_LABEL, color(255)),
    )
)
