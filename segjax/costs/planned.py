"""Memory that XLA plans for the temporaries of a compiled program, on this backend or on a described device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from segjax.errors import UserError
from segjax.ops import for_platform
from segjax.ops.barriers import compile_with_barriers
from segjax.training.memory import memory_analysis


def temporary_bytes(function: Callable[..., Any], *arguments: Any, device: jax.Device | None = None) -> int:
    """Returns the bytes of temporary memory in a compiled program: all but arguments, results and code.

    function: a whole program, not jitted.
    arguments: pytrees of shapes.
    device: that it is compiled for, which may be a device of a topology; None for the first one of this process.

    Raises UserError if the backend reports no memory.
    """
    device = device or jax.local_devices()[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), arguments)
    lowered = jax.jit(for_platform(function, device.platform)).lower(*arguments)
    if (analysis := memory_analysis(compile_with_barriers(lowered, device.platform))) is None:
        raise UserError(f"the {device.platform} backend does not report memory; leave --compile out")
    return analysis.temp_size_in_bytes
