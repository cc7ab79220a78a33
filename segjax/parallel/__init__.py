"""Devices: start-up of one or several processes, the mesh, shardings, and rules over trees."""

from segjax.parallel.distributed import setup
from segjax.parallel.local import devices_of, over_local_devices
from segjax.parallel.mesh import (
    axis_size,
    batch_part,
    batch_sharding,
    constrain_images,
    exchanging,
    fetch,
    fetch_replicated,
    from_first,
    in_all,
    make_mesh,
    replicate,
    replicated,
    shard_batch,
    sync,
)
from segjax.parallel.rules import Rules, match_rules, tree_paths
from segjax.parallel.split import lay_out, split_by_rules
from segjax.parallel.watch import watch_others

__all__ = [
    "Rules",
    "axis_size",
    "batch_part",
    "batch_sharding",
    "constrain_images",
    "devices_of",
    "exchanging",
    "fetch",
    "fetch_replicated",
    "from_first",
    "in_all",
    "lay_out",
    "make_mesh",
    "match_rules",
    "over_local_devices",
    "replicate",
    "replicated",
    "setup",
    "shard_batch",
    "split_by_rules",
    "sync",
    "tree_paths",
    "watch_others",
]
