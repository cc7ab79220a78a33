"""Lower bounds of the time of a program: its FLOPs, bytes and messages, divided by the chip's published rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from segjax.costs.chips import Chip


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What one call of a program takes at least, in seconds; no program is faster than the largest of them.

    flops: the chip's time for the arithmetic.
    memory: for the bytes between the chip and its memory.
    links: for the bytes to other chips.
    images: per call, over all chips.
    useful: FLOPs of the network itself on one chip, without what is computed again; 0 if unknown.
    peak: FLOP/s of the chip.
    """

    flops: float
    memory: float
    links: float
    images: int
    useful: float
    peak: float

    def to_dict(self) -> dict[str, float | str]:
        """Returns the fields and what follows from them, as plain data."""
        derived = {name: getattr(self, name) for name in ("seconds", "limit", "images_per_second", "mfu")}
        return {**dataclasses.asdict(self), **derived}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Bounds:
        """Returns the bounds that `to_dict` has written."""
        return cls(**{field.name: saved[field.name] for field in dataclasses.fields(cls)})

    @property
    def seconds(self) -> float:
        """The largest bound, which counts."""
        return max(self.flops, self.memory, self.links)

    @property
    def limit(self) -> str:
        """Name of the largest bound."""
        return max(("flops", "memory", "links"), key=lambda name: getattr(self, name))

    @property
    def images_per_second(self) -> float:
        """Images per second that the chips reach together at most."""
        return self.images / self.seconds

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation that is reached at most, 0..1."""
        return self.useful / (self.peak * self.seconds)


def bounds(
    chip: Chip, *, flops: float, accessed: float, sent: float, link: float, images: int, useful: float = 0.0
) -> Bounds:
    """Returns the bounds of a program on one of the chips that run it together.

    chip: published figures.
    flops, accessed: FLOPs and bytes of memory that XLA counts for one chip; a loop of unknown length counts once.
    sent: bytes that the chip sends at least, see `Collective.sent`.
    link: bytes/s of the chip's connected links; 0 for none.
    images: of a call, over all chips.
    useful: FLOPs of the network on one chip. Those that XLA counts may be fewer, because it counts a loop once.
    """
    return Bounds(
        max(flops, useful) / chip.flops,
        accessed / chip.bandwidth,
        sent / link if sent else 0.0,
        images,
        useful or flops,
        chip.flops,
    )
