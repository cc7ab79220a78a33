"""Judgement of a proposed label map: masks that were saved wrong show many values that are no classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from segjax.data.folders import some
from segjax.data.label_map import LabelMap
from segjax.data.propose import MAX_CLASSES, Value, usually_ignored

_EDGE = 0.1  # a value with fewer of its pixels in blocks of 2x2 appears along edges only
_SOLID = 0.5
_SMALL_SHARE = 0.25  # edges cover few pixels; masks of noise have no edges


def count_blocks(mask: np.ndarray) -> np.ndarray:
    """Returns the values of the pixels (h, w) that equal their right, lower and lower right neighbours, shape (n,)."""
    first = mask[:-1, :-1]
    return first[(first == mask[1:, :-1]) & (first == mask[:-1, 1:]) & (first == mask[1:, 1:])]


def judge(
    pixels: Mapping[Value, int], blocks: Mapping[Value, int], coding: str, label_map: LabelMap | None, overflow: bool
) -> list[str]:
    """Returns why the values of masks cannot be the classes of a training; an empty list if they can.

    pixels: value -> number of pixels. blocks: value -> number of those that `count_blocks` returns.
    label_map: proposed from the values, None if none could be.
    overflow: whether there were more values than were counted.
    """
    if not pixels:
        return []
    what = "ids" if coding == "id" else "colours"
    if label_map is None and set(pixels) == {usually_ignored(coding)}:
        value = "id 255" if coding == "id" else "black"
        return [f"all masks hold only {value}, which marks pixels without class; are these the masks?"]
    if label_map is None:
        count = f"more than {len(pixels)}" if overflow else str(len(pixels))
        return [
            f"the masks hold {count} different {what}, but at most {MAX_CLASSES} classes are possible; are they "
            "instance ids, or saved with loss or smooth edges?"
        ]
    if label_map.num_classes == 1:
        value = next(value for value in pixels if len(pixels) == 1 or value != usually_ignored(coding))
        return [
            f"all labelled pixels have the same value {value}, so there is nothing to learn; give the background a "
            "value of its own that is not ignored"
        ]
    edge = [value for value, count in pixels.items() if blocks.get(value, 0) < _EDGE * count]
    solid = [value for value, count in pixels.items() if blocks.get(value, 0) > _SOLID * count]
    share = sum(pixels[value] for value in edge) / sum(pixels.values())
    if len(edge) >= 3 and 2 * len(edge) > len(solid) > 0 and share < _SMALL_SHARE:
        return [
            f"{len(edge)} of the {len(pixels)} {what} appear only along the edges of others, on {share:.1%} of the "
            f"pixels ({some(sorted(edge), 8)}); the masks were resized with smooth edges or saved as JPEG: export "
            "them again as PNG, and resize masks by the nearest pixel"
        ]
    return []


def mixed_values(sets: Mapping[frozenset, object]) -> list[str]:
    """Returns the fault of masks of two values that disagree on them: some hold 0 and 1, others 0 and 255.

    sets: the ids of a mask -> a mask that holds them.
    """
    ones = [file for ids, file in sets.items() if 1 in ids and 255 not in ids]
    others = [file for ids, file in sets.items() if 255 in ids and 1 not in ids]
    if not ones or not others or any({1, 255} <= ids for ids in sets):
        return []
    return [
        f"some masks write the class as id 1 ({ones[0]}) and others as id 255 ({others[0]}), and none holds both; "
        "write the same id everywhere, or give a label map if 255 is to be ignored"
    ]
