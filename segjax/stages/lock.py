"""One run at a time in a stage's folder: two would remove each other's unfinished checkpoints."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jax

from segjax import parallel
from segjax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger("segjax")

NAME = ".lock"


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keeps a stage's folder for this run. The system frees it when the run ends, however it ends.

    Every process of the run must call it; the first one holds the lock.

    Raises UserError, in every process, if another run is at work there.
    """
    with contextlib.ExitStack() as held:
        refused = _lock(folder / NAME, held) if jax.process_index() == 0 else ""
        if refused := parallel.from_first(refused):
            raise UserError(refused)
        yield


def _lock(path: Path, held: contextlib.ExitStack) -> str:
    """Locks a file until `held` is closed, and returns ""; or returns why not, as a sentence."""
    if fcntl is None:
        log.warning("this system has no locks of files: see to it that no other run writes to %s", path.parent)
        return ""
    file = held.enter_context(open(path, "a+"))  # noqa: SIM115 (closed with the stack)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        other = file.read().strip() or "that has not said which it is"
        return (
            f"another run ({other}) is at work in {path.parent}; wait for its end, stop it, or give another --workdir."
        )
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        log.warning("%s cannot be locked (%s): see to it that no other run writes there", path.parent, error.strerror)
        return ""
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return ""
