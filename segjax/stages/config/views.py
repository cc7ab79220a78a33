"""The views of an image that a stage averages: options that all stages with a trained network share."""

from __future__ import annotations

import dataclasses
from typing import Any

from segjax import inference

VIEWS = ("scales", "flip", "window", "overlap", "average", "multiple", "base_size")  # options of inference.predict


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """The views of an image.

    protocol, scales .. base_size: options of `inference.predict`: those of the protocol, overridden by the section's.
    """

    protocol: str = "single"
    scales: tuple[float, ...] = ()
    flip: bool = False
    window: tuple[int, ...] = ()
    overlap: Any = ()
    average: Any = ()
    multiple: Any = ()
    base_size: tuple[int, ...] = ()

    @property
    def views(self) -> dict[str, Any]:
        """Options of `inference.predict`; () and False add nothing to the protocol."""
        chosen = {name: getattr(self, name) for name in VIEWS}
        added = {name: value for name, value in chosen.items() if value is not False and value != ()}  # 0 is a value
        return {**inference.find_protocol(self.protocol or "single"), **added}
