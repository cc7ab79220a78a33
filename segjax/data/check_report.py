"""The report of a check of image and mask folders."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segjax.data.label_map import LabelMap

KINDS = {
    "unpaired": "files without partner",
    "split": "splits that are not clear, or share images",
    "unreadable": "files that cannot be used",
    "size": "masks that are not of the size of their image",
    "value": "ids or colours that the label map does not list",
    "classes": "classes that cannot be right",
    "empty": "masks without a pixel of any class",
}


class Problem(NamedTuple):
    """One fault to correct: its kind (a key of KINDS) and a sentence that names the file."""

    kind: str
    message: str


class SamplePair(NamedTuple):
    """A pair for the overlay sheet: name, image uint8 (h, w, 3) RGB, label uint8 (h, w) train ids."""

    name: str
    image: np.ndarray
    label: np.ndarray


@dataclasses.dataclass
class CheckReport:
    """The findings of `check_folder`.

    num_pairs: number of pairs that were checked.
    problems: faults to correct.
    notes: useful facts that are no faults.
    sizes: (h, w) -> number of images.
    label_map: the given map or, if `proposed`, one to edit; None if none fits.
    pixels, images: int64 (k,), pixels of each class, and masks that show it.
    ignored_pixels: pixels of ignored labels.
    raw_pixels: raw id or (r, g, b) -> pixels, as found in the masks.
    samples: a few pairs, reduced in size, for a sheet.
    files: paths that were written.
    """

    num_pairs: int
    problems: list[Problem]
    notes: list[str]
    sizes: collections.Counter
    label_map: LabelMap | None
    proposed: bool
    pixels: np.ndarray
    images: np.ndarray
    ignored_pixels: int
    raw_pixels: dict[int | tuple[int, int, int], int]
    samples: list[SamplePair]
    files: list[Path] = dataclasses.field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if there is no fault to correct."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 if the data is fit for training, else 1."""
        return 0 if self.ok else 1

    @property
    def shares(self) -> np.ndarray:
        """Share of each class among the pixels that are not ignored, float64 (k,)."""
        return self.pixels / max(1, self.pixels.sum())

    @property
    def absent(self) -> list[str]:
        """Classes of the map that no mask shows."""
        names = self.label_map.class_names if self.label_map else ()
        return [name for name, pixels in zip(names, self.pixels) if not pixels]

    def print(self, console: Console | None = None) -> None:
        """Prints classes, sizes, notes and every problem, grouped, one line each."""
        console = console or Console(highlight=False, soft_wrap=True)
        if self.label_map is not None:
            console.print(self._table())
        sizes = ", ".join(f"{w}x{h} ({n})" for (h, w), n in self.sizes.most_common(5)) or "no readable size"
        more = f" and {len(self.sizes) - 5} other sizes" if len(self.sizes) > 5 else ""
        console.print(f"{self.num_pairs} pairs, images of {sizes}{more}")
        for note in self.notes:
            console.print(f"note: {escape(note)}")
        for kind, title in KINDS.items():
            messages = [problem.message for problem in self.problems if problem.kind == kind]
            if messages:
                console.print(f"\n[bold red]{title}: {len(messages)}[/]")
            for message in messages:
                console.print(f"  {escape(message)}")
        for path in self.files:
            console.print(f"wrote {escape(str(path))}")
        if self.ok:
            console.print("[bold green]no problem found[/]")
        else:
            console.print(f"[bold red]{len(self.problems)} problems to correct[/]")

    def _table(self) -> Table:
        ignored = self.ignored_pixels / max(1, self.ignored_pixels + int(self.pixels.sum()))
        title = "classes of the proposed label map" if self.proposed else "classes"
        table = Table(title=title, caption=f"{ignored:.1%} of the pixels are ignored")
        for name, justify in (("id", "right"), ("", "left"), ("class", "left"), ("in the masks", "left")):
            table.add_column(name, justify=justify)
        table.add_column("pixels", justify="right")
        table.add_column("images", justify="right")
        for train_id, label in enumerate(self.label_map.table.classes):
            raw = [x for x in self.label_map.table.labels if x.train_id == train_id]
            color = self.label_map.coding == "color"
            red, green, blue = label.color
            table.add_row(
                str(train_id),
                f"[rgb({red},{green},{blue})]██[/]",
                escape(label.name),
                ", ".join("{},{},{}".format(*x.color) if color else str(x.id) for x in raw),
                f"{self.shares[train_id]:.2%}" if self.pixels[train_id] else "[yellow]absent[/]",
                str(self.images[train_id]),
            )
        return table
