"""Buckets: gs:// and s3:// addresses, runs and datasets that live there, and the local copies that are worked on.

A bucket has no rename and no lock. So a run is worked on in a local folder, by the same code as any other run, and
copied to the bucket (mirror.py): which files belong to it is what one object says that is written last (manifest.py).
Requests are made by tensorstore (store.py), which orbax needs anyway.
"""

from segjax.remote.address import Address, check_address, is_remote, read_address
from segjax.remote.place import cache_root
from segjax.remote.reading import fetch
from segjax.remote.store import RemoteError, Store
from segjax.remote.working import WorkingCopy, current, working_copy

__all__ = [
    "Address",
    "RemoteError",
    "Store",
    "WorkingCopy",
    "cache_root",
    "check_address",
    "current",
    "fetch",
    "is_remote",
    "read_address",
    "working_copy",
]
