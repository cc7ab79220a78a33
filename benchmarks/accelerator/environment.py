"""What is measured on: device, driver, versions, date and commit."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.host import usable_cores

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "jax-cuda13-plugin", "jax-cuda12-plugin", "nvidia-cudnn-cu13", "libtpu")


def describe(*, rehearsal: bool, commit: str) -> dict[str, Any]:
    """Returns the environment; starts the device.

    commit: "" for that of the checkout.

    Raises UserError if jax has no accelerator, unless this is a rehearsal.
    """
    import jax

    backend = jax.default_backend()
    if backend == "cpu" and not rehearsal:
        raise UserError(
            "jax runs on the CPU, and here accelerators are measured; install jax for the accelerator "
            "(docs/accelerator.md), or give --rehearse, which runs everything in tiny sizes"
        )
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": backend,
        "devices": jax.device_count(),
        "rehearsal": rehearsal,
        "driver": _driver(),
        "python": platform.python_version(),
        "packages": _versions(),
        "cores": usable_cores(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or _commit(),
    }


def _driver() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """Returns the hash of the checkout, with + after it if files differ; "" outside a checkout."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    return commit + "+" * bool(commit and _output("git", "status", "--porcelain", "--untracked-files=no"))


def _output(*command: str) -> str:
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
