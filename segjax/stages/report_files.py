"""Reports of stages and runs: their files, and what they say about the machine."""

from __future__ import annotations

import logging
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from segjax.errors import UserError
from segjax.files import read_json, write_json
from segjax.host import usable_cores

log = logging.getLogger("segjax")

NAME = "report.json"

_PACKAGES = ("segjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of python and of the packages that affect the numbers, by name."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def devices() -> str:
    """Returns how many devices of which kinds, processes and cores a run has."""
    kinds = {device.device_kind for device in jax.devices()}
    return (
        f"{jax.device_count()} x {', '.join(sorted(kinds))}, {jax.process_count()} process(es), {usable_cores()} cores"
    )


def read_report(folder: Path, *, damaged: str = "") -> dict[str, Any] | None:
    """Returns the report of a stage or a run, None if there is none or the file is damaged.

    damaged: what a damaged file leads to, for a warning; "" for none.
    """
    try:
        found = read_json(folder / NAME)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if damaged:
        log.warning("%s is not readable and is ignored; %s", folder / NAME, damaged)
    return None


def check_report(workdir: Path) -> None:
    """Raises UserError for a report.json that is not one of a training run: it would be replaced."""
    found = read_report(workdir, damaged="it is written again")
    if found is not None and not all(isinstance(one, dict) and "stage" in one for one in found.values()):
        raise UserError(
            f"{workdir / NAME} was not written by a training run, and would be replaced; give another --workdir."
        )


def write_report(folder: Path, content: Any) -> None:
    """Writes the report of a stage or a run, in the first process."""
    if jax.process_index() == 0:
        write_json(folder / NAME, content)
