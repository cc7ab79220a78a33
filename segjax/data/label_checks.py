"""What the labels of a label map must be."""

from __future__ import annotations

from typing import Any

from segjax.data.classes import IGNORE_LABEL, Label
from segjax.errors import UserError, brief, did_you_mean, quoted

CODINGS = ("id", "color")
MAX_CLASSES = 254  # beside the ignored label, 255, and one value of a byte for what a map does not list


def check_labels(labels: tuple[Label, ...], coding: str, name: str) -> None:
    """Raises UserError for an unknown coding, values out of range, duplicates, and train ids that are not 0 .. k - 1.

    coding: of `CODINGS`. name: of the map, for messages.
    """
    if coding not in CODINGS:
        near = did_you_mean(brief(coding) if isinstance(coding, str) else "", CODINGS)
        raise UserError(f"{name} has coding {quoted(coding)}.{near}")
    classes = {x.train_id for x in labels} - {IGNORE_LABEL}
    if not classes:
        raise UserError(f"{name} lists no class; give at least one label a train_id from 0")
    if len(classes) > MAX_CLASSES:
        raise UserError(f"{name} has {len(classes)} classes; at most {MAX_CLASSES} fit beside the ignored label")
    if classes != set(range(len(classes))):
        missing = min(set(range(len(classes))) - classes)
        raise UserError(f"{name} has {len(classes)} classes but no train_id {missing}; number them from 0 without gaps")
    seen: dict[Any, Label] = {}
    for x in labels:
        if not 0 <= x.id <= 65535:
            raise UserError(f"{name}, label {x.name!r} has id {x.id}; a mask holds ids from 0 to 65535")
        if len(x.color) != 3 or not all(0 <= c <= 255 for c in x.color):
            raise UserError(
                f"{name}, label {x.name!r} has color {quoted(list(x.color))}; write three numbers from 0 to 255"
            )
        keys = [("id", x.id)] + ([("color", x.color)] if coding == "color" else [])
        for key in keys:
            if key in seen:
                raise UserError(
                    f"{name} lists {key[0]} {key[1]} twice ({seen[key].name!r} and {x.name!r}); remove one of them"
                )
            seen[key] = x
