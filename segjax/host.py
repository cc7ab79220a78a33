"""Resources of the machine that this process may use, its garbage collection, and signals that end it."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

OBJECTS_PER_COLLECTION = 5_000  # Python's default is 700
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": 2 cores; "max 100000": no limit


def usable_cores() -> int:
    """Returns the number of cores this process may run on, at least 1.

    The number respects the process's affinity (taskset, slurm) and the CPU quota of its container (cgroup v2).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        cores = os.cpu_count() or 1
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        cores = min(cores, round(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    return max(cores, 1)


def collect_garbage_less_often() -> None:
    """Lets Python look for unreachable cycles after every 5,000 new objects instead of 700; call it before jax is
    imported.

    Imports and traced networks are millions of small objects that stay, and a collection looks at all that may have
    become unreachable: a quarter of the time in which HRNet is traced. Objects without cycles, as arrays are, are freed
    at once with any setting. A process that collects less often already, or not at all, is left as it is.
    """
    young, *older = gc.get_threshold()
    if 0 < young < OBJECTS_PER_COLLECTION:
        gc.set_threshold(OBJECTS_PER_COLLECTION, *older)


def print_stacks_on_request() -> None:
    """Makes `kill -USR1 PID` print where every thread of this process is, to stderr; the process goes on.

    It works while a thread waits in native code, such as a collective or a file system that does not answer.
    """
    if hasattr(faulthandler, "register") and sys.__stderr__ is not None:  # Windows has no such signal
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)


class Stopped(Exception):
    """A signal came within `StopFlag.at_once`."""


class StopFlag:
    """Context manager that remembers SIGTERM or SIGINT (ctrl-C); a second signal ends the process at once.

    number: of the signal, 0 before one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._old: dict[int, object] = {}
        self._at_once = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it, a signal also raises Stopped, so that long work that can be repeated does not delay the end."""
        self._at_once = True
        try:
            if self.number:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> StopFlag:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        self.number = number
        for other, handler in self._old.items():  # so that a second signal of either kind works if the work hangs
            signal.signal(other, handler)
        if self._at_once:
            raise Stopped
