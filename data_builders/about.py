"""Facts about a dataset for the catalogue and for messages: homepage, licence, number of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class About:
    """A published dataset.

    name: of the builder.
    title: for messages.
    homepage: from which the archives are downloaded.
    licence: in a few words.
    classes: name of its class table.
    size: height x width of the images, in words if it varies.
    disk: space of the built dataset, in words.
    archives: name of a file to download by hand -> its size in bytes, 0 if unknown.
    images: stored split -> number of images.
    divisions: further splits made of these (`segjax.data.splits.division`).
    citation: BibTeX.
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
        """Name of the environment variable for the folder of the published files."""
        return f"SEGJAX_{self.name.upper()}"

    @property
    def readme(self) -> str:
        """Path of the README that describes the tree; in a checkout as the docs write it."""
        path = Path(__file__).resolve().parent / self.name / "README.md"
        here = Path.cwd()
        return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
