"""A run whose --workdir is a bucket: its local folder, and what the processes of the run do together."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from segjax import parallel
from segjax.remote import is_remote, read_address, working_copy

log = logging.getLogger("segjax")


@contextlib.contextmanager
def working_folder(workdir: str | os.PathLike) -> Iterator[Path]:
    """Yields the folder of a run: `workdir` itself, or the local copy of a remote one.

    A copy is brought to the bucket while the block runs and at its end. Each process has its own; `parallel.sync` gives
    every process the files of all, as a common disk would.

    Raises UserError for a malformed address, a run that is at work there already, and a bucket that refuses, is full,
    or does not answer.
    """
    if not is_remote(workdir):
        yield Path(workdir).expanduser().resolve()
        return
    address = read_address(workdir, "--workdir")
    index, count = jax.process_index(), jax.process_count()
    with working_copy(address, process=index, processes=count, from_first=parallel.from_first) as copy:
        log.info("the local copy of %s lies in %s", address, copy.folder.parent)
        with parallel.exchanging(copy.exchange):
            parallel.sync("working copies")
            yield copy.folder
            parallel.sync("end of the run")
