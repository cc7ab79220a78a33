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


def read_report(path: Path) -> dict[str, Any] | None:
    """Returns a report, None if there is none; logs one that cannot be read."""
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        log.warning("%s is not readable and is ignored; its stage runs again", path)
        return None
    return found


def check_report(path: Path) -> None:
    """Raises UserError for a report.json that is not one of a training run: it would be replaced."""
    found = read_report(path)
    if found is not None and not all(isinstance(one, dict) and "stage" in one for one in found.values()):
        raise UserError(f"{path} was not written by a training run, and would be replaced; give another --workdir.")


def write_report(path: Path, content: Any) -> None:
    """Writes a report, in the first process."""
    if jax.process_index() == 0:
        write_json(path, content)
