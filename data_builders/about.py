"""What the catalogue and the messages say of a data set: where it is from, under which licence, how many images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class About:
    """A published data set.

    classes: name of its class table. size: (height, width) as published, "" where it varies. archives: what to
    download by hand -> its size in bytes, 0 = not known here. images: stored split -> number of images.
    divisions: further splits made of these (`segjax.data.splits.division`).
    """

    name: str
    title: str
    homepage: str
    licence: str
    classes: str
    size: str
    disk: str
    archives: Mapping[str, int] = dataclasses.field(default_factory=dict)
    images: Mapping[str, int] = dataclasses.field(default_factory=dict)
    divisions: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    citation: str = ""

    @property
    def variable(self) -> str:
        """Environment variable that names the folder of the published files."""
        return f"SEGJAX_{self.name.upper()}"

    @property
    def readme(self) -> str:
        """Where the tree is described."""
        return f"data_builders/{self.name}/README.md"
