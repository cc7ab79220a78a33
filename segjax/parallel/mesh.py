"""The mesh of devices, and the placement of batches and states on it."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from segjax.errors import UserError

log = logging.getLogger("segjax")


def make_mesh(axes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices along named axes, for example {"data": -1} or {"data": 4, "space": 2}.

    axes: size of each axis, slowest first; one may be -1: all devices that are left. "data" splits the batch, "space"
        the image height.
    devices: by default all devices of all processes. With one process, a smaller mesh uses the first of them.

    Raises UserError if a size is invalid, or the sizes do not fit the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    text = ", ".join(f"{name}={size}" for name, size in axes.items())
    if not axes or any(not isinstance(size, (int, np.integer)) or (size < 1 and size != -1) for size in axes.values()):
        raise UserError(f"mesh ({text}): every axis needs a size of 1 or more, or -1 for all devices that are left.")
    if list(axes.values()).count(-1) > 1:
        raise UserError(f"mesh ({text}): only one axis may be -1.")

    fixed = math.prod(size for size in axes.values() if size != -1)
    left = len(devices) // fixed if -1 in axes.values() else 1
    sizes = {name: left if size == -1 else int(size) for name, size in axes.items()}
    needed = math.prod(sizes.values())
    if left == 0 or needed > len(devices):
        needed = max(needed, fixed)
        cpu = f", or force CPU devices with XLA_FLAGS=--xla_force_host_platform_device_count={needed}"
        raise UserError(
            f"mesh ({text}) needs {needed} devices and jax has {len(devices)}; "
            f"change config.mesh{cpu if jax.default_backend() == 'cpu' else ''}."
        )
    if -1 in axes.values() and needed != len(devices):
        raise UserError(
            f"mesh ({text}): {len(devices)} devices are not a multiple of {fixed}; "
            "change config.mesh so that its axes multiply to the number of devices."
        )
    if needed < len(devices):
        if len({device.process_index for device in devices}) > 1:
            raise UserError(
                f"mesh ({text}) uses {needed} of {len(devices)} devices; with several processes every device must be "
                "in it: set one axis of config.mesh to -1."
            )
        log.warning("the mesh (%s) uses %d of %d devices", text, needed, len(devices))
    # the default, Explicit, refuses sorts and gathers over a sharded axis
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), devices=devices[:needed]
    )


def axis_size(mesh: Mesh, name: str) -> int:
    """Returns the size of an axis, 1 if the mesh has no such axis."""
    return mesh.shape.get(name, 1)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, rank: int, *, space_axis: int | None = None) -> NamedSharding:
    """Returns the sharding of an array (b, ...): rows over "data", and the axis `space_axis` (the height) over "space".

    Axes that the mesh lacks split nothing.

    rank: number of axes of the array.
    """
    spec: list[str | None] = [None] * rank
    if rank and "data" in mesh.shape:
        spec[0] = "data"
    if space_axis is not None and "space" in mesh.shape:
        spec[space_axis] = "space"
    return NamedSharding(mesh, PartitionSpec(*spec))


def constrain_images(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Returns a function, for use inside jit, that splits (b, h, ...) over "data", and h over "space" if divisible."""

    def constrain(x):
        space = x.ndim > 1 and x.shape[1] % axis_size(mesh, "space") == 0
        sharding = batch_sharding(mesh, x.ndim, space_axis=1 if space else None)
        return jax.lax.with_sharding_constraint(x, sharding)

    return constrain


def batch_part(mesh: Mesh) -> tuple[int, int]:
    """Returns (index, count): this process loads rows index * b / count ... (index + 1) * b / count of each batch of b.

    Processes whose devices differ along "space" only have the same index and load the same rows.

    Raises UserError if the processes have unequal parts of the batch, or this process has no device in the mesh.
    """
    axis = list(mesh.shape).index("data") if "data" in mesh.shape else None
    held: dict[int, set[int]] = {}
    for place, device in np.ndenumerate(mesh.devices):
        held.setdefault(device.process_index, set()).add(0 if axis is None else place[axis])
    groups = sorted({tuple(sorted(places)) for places in held.values()})
    if sum(map(len, groups)) != len(set().union(*groups)) or len({len(group) for group in groups}) != 1:
        raise UserError(
            f"mesh {dict(mesh.shape)} splits the batch unevenly over {len(held)} processes; let the axis 'data' or "
            "'space' be a multiple of the number of processes."
        )
    mine = held.get(jax.process_index())
    if mine is None:
        raise UserError(f"process {jax.process_index()} has no device in the mesh; set one axis of config.mesh to -1.")
    return groups.index(tuple(sorted(mine))), len(groups)


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows (see `batch_part`) of each array (b_local, ...) on the mesh as global arrays (b, ...).

    A CPU device may use numpy's memory directly: do not write to the arrays afterwards.

    Raises UserError if the rows cannot be split equally over the devices.
    """
    _, parts = batch_part(mesh)
    data = axis_size(mesh, "data")
    for name, x in batch.items():
        if len(x) * parts % data:
            raise UserError(
                f"a batch of {len(x) * parts} (its {name!r}) cannot be shared out among {data} devices; "
                f"make batch_size a multiple of {data} or change config.mesh."
            )
    shardings = {name: batch_sharding(mesh, np.ndim(x)) for name, x in batch.items()}
    if jax.process_count() == 1:
        return jax.device_put(dict(batch), shardings)
    return {
        name: jax.make_array_from_process_local_data(shardings[name], np.asarray(x), (len(x) * parts, *x.shape[1:]))
        for name, x in batch.items()
    }


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays that every process has on all devices of the mesh, whole."""
    if jax.process_count() > 1:
        tree = jax.device_get(tree)  # an array on one device cannot be copied to those of another process
    return jax.device_put(tree, replicated(mesh))


def fetch(array: jax.Array) -> np.ndarray:
    """Returns an array as numpy, also if its parts are on the devices of several processes, which must all call it."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def fetch_replicated(tree: Any) -> Any:
    """Returns a tree of replicated arrays as numpy arrays, on any number of processes, without communication.

    Raises ValueError for an array that is not replicated.
    """

    def fetch(x):
        if not isinstance(x, jax.Array):
            return np.asarray(x)
        if not x.is_fully_replicated:
            raise ValueError(f"an array {x.shape} with sharding {x.sharding} is not replicated; reduce it inside jit")
        return np.asarray(x.addressable_shards[0].data)

    return jax.tree.map(fetch, tree)


def sync(name: str) -> None:
    """Waits for all processes, which see each other's files then; name: what for, the same in every process."""
    if jax.process_count() > 1:
        barrier = functools.partial(multihost_utils.sync_global_devices, name)
        if _EXCHANGES:
            _EXCHANGES[-1](barrier)
        else:  # they share a disk
            barrier()


@contextlib.contextmanager
def exchanging(exchange: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Makes `sync` call `exchange` while the block runs, where processes have folders of their own.

    exchange: gives every process the files of all; calls its argument to wait for all processes.
    """
    _EXCHANGES.append(exchange)
    try:
        yield
    finally:
        _EXCHANGES.remove(exchange)


_EXCHANGES: list[Callable[[Callable[[], None]], None]] = []


def from_first(text: str) -> str:
    """Returns the text of the first process in every process, all of which must call it."""
    if jax.process_count() == 1:
        return text
    content = np.frombuffer(text.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.array(content.size, np.int32)))
    padded = np.zeros(length, np.uint8)
    if jax.process_index() == 0:
        padded[:] = content
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8)).decode()


def in_all(found: bool) -> bool:
    """Returns whether something is true in all processes, which must all call it."""
    if jax.process_count() == 1:
        return found
    return bool(np.all(multihost_utils.process_allgather(np.array(found))))
