"""`segjax datasets`: lists datasets with their classes, splits, sources and builds."""

from __future__ import annotations

import argparse

from segjax.errors import UserError, did_you_mean


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets to list (all)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of built datasets ($SEGJAX_DATA_DIR)")


def run(arguments: argparse.Namespace) -> None:
    """Prints classes, splits, sizes and sources of datasets, and their builds on this machine.

    Raises UserError for an unknown dataset.
    """
    from segjax.data.catalogue import catalogue, describe

    entries = {entry.name: entry for entry in catalogue(arguments.data_dir)}
    for name in arguments.names:
        if name not in entries:
            raise UserError(f"there is no dataset {name!r}.{did_you_mean(name, entries)}")
    print(
        "\n\n".join(describe(entries[name], all_classes=bool(arguments.names)) for name in arguments.names or entries)
    )
