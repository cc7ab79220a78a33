"""`segjax datasets`: classes, splits, where to get them, what is built."""

from __future__ import annotations

import argparse

from segjax.errors import UserError, did_you_mean


def describe(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets to show (all)")
    parser.add_argument("--data-dir", metavar="DIR", help="where data sets are built ($SEGJAX_DATA_DIR)")


def run(arguments: argparse.Namespace) -> None:
    """Lists data sets: classes, splits, sizes, where to get them, what is built on this machine."""
    from segjax.data.catalogue import catalogue, describe

    entries = {entry.name: entry for entry in catalogue(arguments.data_dir)}
    for name in arguments.names:
        if name not in entries:
            raise UserError(f"there is no data set {name!r}.{did_you_mean(name, entries)}")
    print(
        "\n\n".join(describe(entries[name], all_classes=bool(arguments.names)) for name in arguments.names or entries)
    )
