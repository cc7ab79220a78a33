"""TPU slices by name, such as v5e:4x4: a kind of chip and the shape in which chips are connected."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from segjax.costs.chips import CHIPS, Chip
from segjax.errors import UserError

LOCAL = "local"
# shapes that are let, see the pages of the chips; those of three dimensions go on with any multiples of 4
SHAPES = {
    "v5e": ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
    "v6e": ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
    "v4": ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)),
    "v5p": ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)),
}
_TYPES = {"v5e": "v5litepod", "v6e": "v6e", "v4": "v4", "v5p": "v5p"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice of a pod.

    name: such as "v5e:4x4".
    chip: key of CHIPS.
    shape: number of chips along each axis.
    """

    name: str
    chip: str
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def figures(self) -> Chip:
        """Published figures of its chip."""
        return CHIPS[self.chip]

    @property
    def link(self) -> float:
        """Bytes/s that a chip can send: one link along an axis of 2 chips, two along a longer one."""
        connected = sum(min(side - 1, 2) for side in self.shape)
        return self.figures.link * connected / self.figures.links

    @property
    def accelerator_type(self) -> str:
        """Its name for Google's tools; v4 and v5p count the two cores of a chip."""
        return f"{_TYPES[self.chip]}-{self.chips * (2 if len(self.shape) == 3 else 1)}"

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `jax.experimental.topologies.get_topology_desc`, beside the name."""
        one_device_a_chip = {"chip_config_name": "megacore"} if self.chip == "v4" else {}
        single = {"chips_per_host_bounds": (1, 1, 1)} if self.chips == 1 else {}
        return {**one_device_a_chip, **single}


def find_slice(name: str) -> Slice:
    """Returns a slice by name. Raises UserError for an unknown chip, and a shape in which none is let."""
    kind, _, shape = name.partition(":")
    if kind not in SHAPES:
        if kind in CHIPS:
            raise UserError(
                f"--topology={name}: programs for {kind} are compiled on a machine that has one; run segjax plan "
                f"there, with --topology={LOCAL}."
            )
        raise UserError(
            f"--topology={name}: there is no TPU {kind!r}; choose {', '.join(sorted(SHAPES))} with a shape, "
            f"as in v5e:4x4, or {LOCAL} for the devices of this machine."
        )
    known = SHAPES[kind]
    sides = tuple(map(int, shape.split("x"))) if re.fullmatch(r"\d+(x\d+)*", shape) else ()
    cubes = len(known[0]) == len(sides) == 3 and all(side and side % 4 == 0 for side in sides)
    if sides not in known and not cubes:
        more = " or three multiples of 4" if len(known[0]) == 3 else ""
        raise UserError(
            f"--topology={name}: {kind} has no slice of the shape {shape!r}; choose "
            f"{', '.join('x'.join(map(str, sides)) for sides in known)}{more}."
        )
    return Slice(name, kind, sides)
