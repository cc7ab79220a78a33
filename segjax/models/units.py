"""Units of a trunk by the names of its leaves: what can be disabled, and which leaves make a unit's output zero.

A unit is a branch: a layer of a DenseNet, the residual of a ResNet's block. Without its output the map that enters it
is passed on. The projections of shortcuts, the transitions and units without shortcut belong to no unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segjax.errors import UserError


class UnitNames(NamedTuple):
    """PyTorch names of the units of a kind of trunk.

    kind: of the trunk, for errors.
    pattern: regular expression of a unit's name, with the groups `block` and `unit`, which are numbers. Without the
        group `block`, units whose last layers have the same width are a block; its first unit has no shortcut.
    last: regular expression of the leaves below it without which its output is zero. Of alternatives
        (`first|second`), the first that the unit has.
    """

    kind: str
    pattern: str
    last: str


TABLE: tuple[UnitNames, ...] = (
    UnitNames("DenseNet", r"features\.denseblock(?P<block>\d+)\.denselayer(?P<unit>\d+)", r"conv2\."),
    UnitNames("DPN", r"(?:.+\.)?conv(?P<block>\d+)_(?P<unit>\d+)", r"c1x1_c\.conv\."),
    UnitNames("ResNet", r"(?:.+\.)?layer(?P<block>\d+)\.(?P<unit>\d+)", r"bn3\.|bn2\."),
    UnitNames("ResNet (caffe)", r"(?:.+\.)?layer(?P<block>\d+)\.block(?P<unit>\d+)", r"increase\.bn\."),
    UnitNames("wide ResNet", r"mod(?P<block>\d+)\.block(?P<unit>\d+)", r"convs\.conv3\.|convs\.conv2\."),
    UnitNames("EfficientNet", r"(?:.+\.)?_blocks\.(?P<unit>\d+)", r"_bn2\."),
    UnitNames("MobileNetV2", r"(?:.+\.)?features\.(?P<unit>\d+)(?=\.conv\.\d+\.)", r"conv\.3\.|conv\.2\."),
)


class TrunkUnit(NamedTuple):
    """A unit. name: of the unit. leaves: names of the parameters to set to zero."""

    name: str
    leaves: tuple[str, ...]


def trunk_units(module: Any, sizes: Mapping[str, int]) -> dict[str, list[TrunkUnit]]:
    """Returns the units of each block of a network's trunk, both from the image to the classifier.

    module: of the network. Its attribute `unit_names`, a tuple of `UnitNames`, overrides TABLE; () for a trunk that has
        no last block.
    sizes: PyTorch name -> number of values of each parameter.

    Raises UserError for a network without such units.
    """
    for names in getattr(module, "unit_names", TABLE):
        found = _blocks(names, sizes)
        if found:
            return found
    raise UserError(
        f"{type(module).__name__} has a trunk whose units are not known; take a network with one of these trunks: "
        f"{', '.join(names.kind for names in TABLE)}."
    )


def tail(blocks: Mapping[str, Sequence[TrunkUnit]], count: int = 2) -> list[TrunkUnit]:
    """Returns the units of the last `count` blocks, from the image to the classifier."""
    return [unit for block in list(blocks)[-count:] for unit in blocks[block]]


def _blocks(names: UnitNames, sizes: Mapping[str, int]) -> dict[str, list[TrunkUnit]]:
    found: dict[str, dict[str, list[str]]] = {}  # unit -> alternative of `last` -> leaves
    places: dict[str, tuple[int, int]] = {}
    for name in sizes:
        unit = re.match(names.pattern + r"\.", name)
        if unit is None:
            continue
        key = name[: unit.end() - 1]
        groups = unit.groupdict()
        places[key] = (int(groups.get("block", 0)), int(groups["unit"]))
        for last in names.last.split("|"):
            if re.match(last, name[unit.end() :]):
                found.setdefault(key, {}).setdefault(last, []).append(name)
                break
    by_width = "block" not in re.compile(names.pattern).groupindex
    blocks: dict[str, list[TrunkUnit]] = {}
    before = 0
    for key in sorted(found, key=places.__getitem__):
        leaves = next(found[key][last] for last in names.last.split("|") if last in found[key])
        width = min(sizes[leaf] for leaf in leaves)
        if not by_width:
            blocks.setdefault(str(places[key][0]), []).append(TrunkUnit(key, tuple(leaves)))
        elif width == before:
            blocks.setdefault(f"of {width} channels", []).append(TrunkUnit(key, tuple(leaves)))
        before = width
    return blocks
