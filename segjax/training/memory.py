"""The memory plan: the bytes that a compiled step needs on each device, known before the first step runs."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

log = logging.getLogger("segjax")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one device.

    groups: name -> bytes of one part of the arguments.
    program: bytes of arguments, outputs (beyond donated arguments), temporaries and code; empty if XLA reports none.
    limit: bytes of the device, None if unknown.
    """

    groups: Mapping[str, int]
    program: Mapping[str, int]
    limit: int | None

    @property
    def needed(self) -> int:
        """Bytes that must fit: the program's, or if XLA reports none the groups', which is a lower bound."""
        return sum((self.program or self.groups).values())

    @property
    def fits(self) -> bool:
        """Whether the needed bytes fit; True if the device's are unknown."""
        return self.limit is None or self.needed <= self.limit

    def table(self) -> str:
        """Returns the plan as lines of text, in MiB."""
        rows = [(name, size) for name, size in self.program.items()]
        rows = [*rows[:1], *((f"  {name}", size) for name, size in self.groups.items()), *rows[1:]]
        rows.append(("needed" if self.program else "needed, without temporaries (unknown here)", self.needed))
        if self.limit is not None:
            rows.append(("device has", self.limit))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}} {size / 2**20:>12,.1f} MiB" for name, size in rows)


def memory_plan(
    compiled: jax.stages.Compiled,
    *,
    groups: Mapping[str, Any],
    device: jax.Device | None = None,
    limit: int | None = None,
) -> MemoryPlan:
    """Returns the memory plan of a compiled program.

    compiled: the program.
    groups: name -> pytree of arrays, or of shapes with shardings: its arguments (parameters, optimizer, batch, ...).
    device: that it will run on; the first local device by default.
    limit: bytes of the device, None for what jax may use on it; a described device does not report them.
    """
    limit = device_memory(device or jax.local_devices()[0]) if limit is None else limit
    sizes = group_bytes(groups)
    stats, program = memory_analysis(compiled), {}
    if stats is not None:
        program = {
            "arguments": stats.argument_size_in_bytes,
            "outputs": stats.output_size_in_bytes - stats.alias_size_in_bytes,
            "temporaries": stats.temp_size_in_bytes,
            "code": stats.generated_code_size_in_bytes,
        }
    return MemoryPlan(sizes, program, limit)


def group_bytes(groups: Mapping[str, Any]) -> dict[str, int]:
    """Returns name -> bytes on one device of pytrees of arrays, or of shapes with shardings."""
    return {name: sum(map(_bytes_per_device, jax.tree.leaves(tree))) for name, tree in groups.items()}


def memory_analysis(compiled: jax.stages.Compiled) -> Any:
    """Returns what XLA has planned for a compiled program, None if the backend does not report it."""
    try:
        return compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None


def log_memory_plan(plan: MemoryPlan, *, name: str) -> None:
    """Logs the table of a plan, and a warning with remedies if it does not fit; name: of the program."""
    log.info("memory on each device, %s:\n%s", name, plan.table())
    if not plan.fits:
        log.warning(
            "%s needs %.1f GiB and the device has %.1f GiB: lower batch_size or crop.size, set remat='full', or raise "
            "accumulate_steps",
            name, plan.needed / 2**30, plan.limit / 2**30,
        )  # fmt: skip


def device_memory(device: jax.Device) -> int | None:
    """Returns the bytes that jax may use on a device, None if unknown; for a CPU its share of the host's memory."""
    stats = device.memory_stats() or {}
    if stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    if device.platform != "cpu":
        return None
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return total // jax.local_device_count()


def device_peak(device: jax.Device | None = None) -> int | None:
    """Returns the peak bytes of jax on a device so far, None if the device does not report them (CPU)."""
    stats = (device or jax.local_devices()[0]).memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def _bytes_per_device(leaf: Any) -> int:
    sharding = getattr(leaf, "sharding", None)
    shape = np.shape(leaf) if sharding is None else sharding.shard_shape(leaf.shape)
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return math.prod(shape) * dtype.itemsize
