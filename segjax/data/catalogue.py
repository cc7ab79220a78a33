"""The datasets that can be built: classes, splits, sizes, origin, and what is built on this machine."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import textwrap
from pathlib import Path
from typing import Any

from segjax.data.builds import PACKAGE, data_root, dataset_names
from segjax.data.classes import CLASSES, class_table
from segjax.data.prepare import begun
from segjax.data.tfds_builder import built_again
from segjax.files import read_json

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class Built:
    """A dataset on this machine: its folder, bytes, and images per stored split."""

    folder: Path
    size: int
    images: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A dataset that can be built.

    summary: one line. about: facts about the published files (`data_builders.about.About`).
    built: complete builds, newest first. begun: builds that were interrupted and can be resumed.
    """

    name: str
    summary: str
    about: Any
    built: list[Built]
    begun: list[Built] = dataclasses.field(default_factory=list)


def catalogue(data_dir: str | os.PathLike | None = None) -> list[Entry]:
    """Returns all datasets by name; data_dir: folder of the built ones, default as in `open_source`."""
    root = data_root(data_dir)
    entries = []
    for name in dataset_names():
        module = importlib.import_module(f"{PACKAGE}.{name}.{name}_dataset_builder")
        summary = module.__doc__.strip().splitlines()[0]
        about, folder = module.ABOUT, root / name
        entries.append(Entry(name, summary, about, find_built(folder), find_begun(folder)))
    return entries


def find_built(folder: Path) -> list[Built]:
    """Returns the complete builds of one dataset, newest first; damaged ones are left out, with a warning."""
    infos = sorted(folder.glob("*/*/dataset_info.json"), key=lambda path: -path.stat().st_mtime)
    found = []
    for info in infos:
        if info.parent.name.startswith("."):
            continue
        try:
            splits = read_json(info).get("splits", [])
            images = {split["name"]: sum(map(int, split.get("shardLengths", []))) for split in splits}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            log.warning("%s is damaged; %s", info, built_again(info.parent))
            continue
        size = sum(path.stat().st_size for path in info.parent.iterdir())
        found.append(Built(info.parent, size, images))
    return found


def find_begun(folder: Path) -> list[Built]:
    """Returns the builds that were interrupted and can be resumed; images: those of all splits together."""
    found = [(path, *begun(path)) for path in sorted(folder.glob("*/.building-*"))]
    return [Built(path, size, {"records": records}) for path, records, size in found if records]


def _classes(name: str, every: bool) -> str:
    table = class_table(name)
    if every:
        return textwrap.fill(f"{table.num_classes}: {', '.join(table.names)}", 110, subsequent_indent=" " * 12)
    return f"{table.num_classes}: {', '.join(table.names[:8])}{' ...' if table.num_classes > 8 else ''}"


def describe(entry: Entry, *, all_classes: bool = False) -> str:
    """Returns the facts about a dataset, one per line; all_classes: every name instead of the first 8."""
    lines = [f"{entry.name}: {entry.summary}"]
    about = entry.about
    facts = {
        "classes": _classes(about.classes, all_classes) if about.classes else "as the option label_map says",
        "maps": ", ".join(
            name for name in CLASSES if name == f"rob_{entry.name}" or name.startswith(f"{entry.name}_to_")
        ),
        "splits": ", ".join(f"{split} {count}" for split, count in about.images.items()),
        "also": ", ".join(about.divisions),
        "size": f"{about.size}; {about.disk}",
        "from": about.homepage,
        "licence": about.licence,
    }
    lines += [f"  {name:<9} {text}" for name, text in facts.items() if text]
    if about.archives:
        lines.append(
            f"  download  {', '.join(about.archives)}; folder in source_dir or ${about.variable}; {about.readme}"
        )
    else:
        lines.append(f"  download  nothing; {about.readme}")
    for built in entry.built:
        images = ", ".join(f"{split} {count}" for split, count in built.images.items())
        lines.append(f"  built     {images}; {built.size / 1e6:,.0f} MB in {built.folder}")
    for stopped in entry.begun:
        count = stopped.images["records"]
        lines.append(f"  begun     {count} records, {stopped.size / 1e6:,.0f} MB in {stopped.folder}, to be resumed")
    if not entry.built:
        lines.append("  built     no")
    return "\n".join(lines)
