"""Batches split over the devices of this process, for work that each process does on its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.parallel.mesh import replicated

ROWS = PartitionSpec("data")


def over_local_devices(run: Callable[[Any, Any], Any], variables: Any) -> Callable[[Any], Any]:
    """Returns a function (batch) -> run(variables, batch) that splits the batch over the local devices.

    Each device computes an equal share of the rows. So a batch of b rows uses as many devices as the largest divisor
    of b allows; a multiple of the number of devices uses all of them. The devices exchange nothing, and the variables
    are copied to them once, by the first batch that uses several.

    run: (variables, array (b, ...)) -> tree of arrays (b, ...), each row a function of the same row of the input.
    variables: tree of arrays.
    """
    devices = jax.local_devices()

    @functools.cache
    def everywhere() -> Any:
        return jax.device_put(variables, replicated(Mesh(np.array(devices), ("data",))))

    @functools.cache
    def on(count: int) -> Callable[[Any], Any]:
        mesh = Mesh(np.array(devices[:count]), ("data",))
        whole, rows = replicated(mesh), NamedSharding(mesh, ROWS)

        def of_first(x: jax.Array) -> jax.Array:  # the copies that the devices have already
            held = {shard.device: shard.data for shard in x.addressable_shards}
            return jax.make_array_from_single_device_arrays(x.shape, whole, [held[d] for d in devices[:count]])

        placed = jax.tree.map(of_first, everywhere())
        # unchecked, because no gradient is taken and the devices exchange nothing
        each = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), ROWS), out_specs=ROWS, check_vma=False)
        program = jax.jit(each)
        return lambda batch: program(placed, jax.device_put(batch, rows))

    def split(batch: Any) -> Any:
        count = devices_of(len(batch), len(devices))
        return run(variables, batch) if count == 1 else on(count)(batch)

    return split


def devices_of(batch: int, devices: int) -> int:
    """Returns the number of devices, of `devices`, that share out a batch of so many rows equally: the largest one."""
    return max(count for count in range(1, devices + 1) if batch % count == 0) if batch else 1
