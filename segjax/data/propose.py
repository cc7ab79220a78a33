"""A label map that is proposed from the ids or colours in masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from segjax.data.classes import CLASSES, IGNORE_LABEL, ClassTable, Label
from segjax.data.label_map import LabelMap

Value = int | tuple[int, int, int]
MAX_CLASSES = 254
_BLACK = (0, 0, 0)


def usually_ignored(coding: str) -> Value:
    """Returns the value that most datasets use for pixels without class: id 255, or black."""
    return IGNORE_LABEL if coding == "id" else _BLACK


def propose_label_map(
    values: Iterable[Value], coding: str, colors: Mapping[int, tuple[int, int, int]], *, holes: bool = False
) -> tuple[LabelMap | None, list[str]]:
    """Returns a label map to edit, or None if the values cannot be classes, and notes for the user.

    Exactly two values are two classes, as in masks of 0 and 255, or of one colour on black. Otherwise the value that
    most datasets use for pixels without class is ignored.

    values: those in the masks. coding: see `LabelMap`. colors: display colours of ids, if masks have a palette.
    holes: whether masks have transparent pixels, which count as the value that is usually ignored.
    """
    values = sorted(set(values))
    classes = [value for value in values if value != usually_ignored(coding)]
    two = len(values) == 2 and not holes
    if two:
        classes = values
    if not classes or len(classes) > MAX_CLASSES:
        return None, []
    names, notes = _known_names(values, coding)
    labels = []
    for train_id, value in enumerate(classes):
        color = value if coding == "color" else colors.get(value, bit_color(train_id + 1))
        raw_id = train_id if coding == "color" else value
        labels.append(Label(raw_id, names.get(value, f"class {train_id}"), train_id, color))
    if len(classes) < len(values):
        raw_id = IGNORE_LABEL if coding == "id" else len(classes)
        labels.append(Label(raw_id, "ignored", IGNORE_LABEL, _BLACK))
        what = "id 255" if coding == "id" else "black"
        notes.append(f"the proposed map ignores {what}; give it a train_id if it is a class")
    elif two and usually_ignored(coding) in values:
        what = "id 255" if coding == "id" else "black"
        notes.append(
            f"the masks hold two values, so {what} is a class of the proposed map; set train_id 255 to ignore it"
        )
    if not names:
        notes.append("the proposed map numbers the classes; edit their names, and set train_id 255 for what to ignore")
    return LabelMap(ClassTable(tuple(labels)), coding=coding, name="the proposed label map"), notes


def bit_color(index: int) -> tuple[int, int, int]:
    """Returns colour `index` of the Pascal VOC palette: its bits, spread over the high bits of red, green and blue."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return tuple(channels)


def _known_names(values: list[Value], coding: str) -> tuple[dict[Value, str], list[str]]:
    """Returns the names of a class table that has all the values, which are half of its own or more."""
    for name, table in CLASSES.items():
        if coding == "id" and set(values) <= set(table.ids) and len(values) * 2 > len(table.ids):
            return {}, [
                f"the ids would fit the class table {name!r}; check again with --label_map={name} if it is that"
            ]
        if coding == "color":
            known = {label.color: label.name for label in (*table.labels, *table.classes)}
            if set(values) <= set(known) and len(values) * 2 >= len(known):
                return known, [f"all colours are those of {name}, whose names the proposed map takes"]
    return {}, []
