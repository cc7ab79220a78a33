"""A remote run in a local folder: fetched at its start, copied to the bucket while it runs and at its end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from segjax.errors import UserError
from segjax.remote.address import Address
from segjax.remote.lease import Lease, host_name
from segjax.remote.mirror import Mirror
from segjax.remote.place import place_of
from segjax.remote.store import RemoteError, Store
from segjax.remote.tree import keep_only

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger("segjax")

INTERVAL = 5.0  # seconds between two copies to the bucket
LAST_TRIES = 3  # of the copy at the end
LATE = 60.0  # seconds without a copy, while files change all the time, after which a warning is logged


class WorkingCopy:
    """The local folder of a remote run; see `working_copy`.

    address: of the run.
    folder: the local one, of this process alone.
    process, processes: index of this process of the run, and their number.
    """

    def __init__(self, address: Address, *, process: int = 0, processes: int = 1):
        self.address, self.process, self.processes = address, process, processes
        self.folder = place_of(address, "runs") / f"process-{process}"
        self._mirror = Mirror(Store(address), self.folder)
        self._lease: Lease | None = None
        self._pushing, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._error: RemoteError | UserError | None = None
        self._lock = None

    def open(self) -> None:
        """Locks the local folder and, in the first process, the remote one; then fetches the run.

        Raises UserError if another run is at work there, the folder holds something else, or the bucket refuses.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder.with_name(f"{self.folder.name}.lock")
        self._lock = open(path, "a")  # noqa: SIM115 (closed by close)
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock = None
                raise UserError(
                    f"another run is at work in {self.address} on this host; wait for its end, stop it, or give "
                    "another --workdir."
                ) from None
        if self.process == 0:
            # which writes: a bucket that does not exist looks like an empty one to all that reads
            self._lease = Lease(self._mirror.store, host_name(path))
        self.fetch()

    def fetch(self) -> None:
        """Makes the local folder what the bucket says."""
        if not self._mirror.pull(repair=self.process == 0):
            keep_only(self.folder, ())  # of a run whose remote folder was deleted

    def start(self) -> None:
        """Begins to copy to the bucket, in a thread, every `INTERVAL` seconds."""
        self._thread = threading.Thread(target=self._run, name="bucket", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises the UserError for which copying to the bucket has ended, if it has."""
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Copies all that has changed to the bucket. Raises UserError if the bucket does not take it."""
        self.check()
        for left in reversed(range(LAST_TRIES)):
            try:
                with self._pushing:
                    if self._push(whole=True):
                        return
                raise RemoteError(f"{self.folder} keeps changing, so that {self.address} lacks its end.", passing=True)
            except RemoteError as error:
                if not error.passing or not left:
                    raise
                log.warning("%s", error)

    def exchange(self, barrier: Callable[[], None]) -> None:
        """Gives every process the files of all; every process must call it. barrier: waits for all processes."""
        if self.process:
            with self._pushing:
                self._mirror.offer(self.process)
        barrier()
        if not self.process:
            with self._pushing:
                self._mirror.accept(self.processes, fetch=True)
            self.flush()
            self._mirror.forget_offers(self.processes)
        barrier()
        if self.process:
            with self._pushing:
                self.fetch()
        barrier()  # before the first process changes files that another one fetches

    def close(self, *, failed: bool) -> None:
        """Ends the copying, after a last one in the first process. failed: whether an error ends the run."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if self.process == 0 and self._thread is not None and not (failed and self._error):
                self.flush()
        except UserError as error:
            if not failed:
                raise
            log.warning("%s", error)
        finally:
            if self._lease is not None:
                self._lease.close()
            if self._lock is not None:
                self._lock.close()

    def _push(self, *, whole: bool = False) -> bool:
        if self.process:
            self._mirror.offer(self.process)
            return True
        self._lease.check()
        if self.processes > 1 and not whole:
            self._mirror.accept(self.processes, fetch=False)
        return self._mirror.push()

    def _run(self) -> None:
        warned, late, copied = False, False, time.monotonic()
        while not self._stop.wait(INTERVAL):
            begin = time.monotonic()
            try:
                with self._pushing:
                    done = self._push()
                warned = False
                if done:
                    late, copied = False, time.monotonic()
                elif not late and time.monotonic() - copied > LATE:
                    late = True
                    log.warning(
                        "%s has nothing of the last %.0f s: files change or are removed faster than they are copied; "
                        "make more time between checkpoints, or keep more of them",
                        self.address, time.monotonic() - copied,
                    )  # fmt: skip
            except RemoteError as error:
                if not error.passing:
                    self._error = error
                    return
                if not warned:
                    log.warning("%s The run goes on, and tries again.", error)
                warned = True
            except UserError as error:
                self._error = error
                return
            except OSError as error:  # of the local disk: the run itself says so
                log.debug("copying to %s: %s", self.address, error)
            if (seconds := time.monotonic() - begin) > 10 * INTERVAL:
                log.info("copying to %s took %.0f s; a kill loses what was made since", self.address, seconds)


@contextlib.contextmanager
def named_by(address: Address, folder: Path) -> Iterator[None]:
    """Shows a remote address where log lines and errors of the user name the local folder."""

    class Naming(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            text = record.getMessage()
            if str(folder) in text:
                record.msg, record.args = text.replace(str(folder), str(address)), ()
            return True

    naming = Naming()
    log.addFilter(naming)
    try:
        yield
    except UserError as error:
        if str(folder) not in str(error):
            raise
        raise UserError(str(error).replace(str(folder), str(address))) from error
    finally:
        log.removeFilter(naming)


@contextlib.contextmanager
def working_copy(
    address: Address, *, process: int = 0, processes: int = 1, from_first: Callable[[str], str] = str
) -> Iterator[WorkingCopy]:
    """Opens a remote run: yields its local copy, which is copied to the bucket while the block runs and at its end.

    process, processes: see `WorkingCopy`.
    from_first: text -> that of the first process, in every process; all call it.

    Raises UserError as `WorkingCopy.open` does, in every process if the first cannot open the run, and if the bucket
    refuses, or does not take what was written.
    """
    copy = WorkingCopy(address, process=process, processes=processes)
    failed = True
    with named_by(address, copy.folder):
        try:
            problem = ""
            if process == 0:
                try:
                    copy.open()
                except UserError as error:
                    problem = str(error)
            if problem := from_first(problem):
                raise UserError(problem)
            if process:  # after the first one has the run to itself
                copy.open()
            copy.start()
            _CURRENT.append(copy)
            yield copy
            failed = False
        finally:
            if copy in _CURRENT:
                _CURRENT.remove(copy)
            copy.close(failed=failed)


def current() -> WorkingCopy | None:
    """Returns the local copy that this process works on, if its run is remote."""
    return _CURRENT[-1] if _CURRENT else None


_CURRENT: list[WorkingCopy] = []
