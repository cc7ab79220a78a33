"""One run at a time in a remote folder: an object says which, and changes while that run lives."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path

from segjax.errors import UserError
from segjax.remote.manifest import OWN
from segjax.remote.store import RemoteError, Store

log = logging.getLogger("segjax")

NAME = f"{OWN}/run.json"
BEAT = 10.0  # seconds between two changes by a run that lives
SILENCE = 45.0  # seconds after which a run that changes nothing is dead
SETTLE = 0.5  # seconds in which another run that starts in the same moment would write its name


class Busy(UserError):
    """Another run is at work in a remote folder; who: process and host."""

    def __init__(self, sentence: str, who: str):
        super().__init__(sentence)
        self.who = who


class Lease:
    """The right to write to a remote folder.

    store: of the folder.
    host: text that is the same for all runs whose local copy is this one, of which a lock of the system allows one.

    Raises Busy, a UserError, if another run is at work there. If a run was killed on another host, it takes `SILENCE`
    seconds to know that.
    """

    def __init__(self, store: Store, host: str):
        self.store, self.token, self._beats = store, secrets.token_hex(8), 0
        self.host = host
        self._stop = threading.Event()
        self._wait_for_silence()
        self._write()
        time.sleep(SETTLE)
        found = self._read()
        if found and found.get("token") != self.token:  # both began in the same moment
            raise self._busy(found)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _wait_for_silence(self) -> None:
        first = self._read()
        if not first or first.get("host") == self.host:
            return
        who, end = first.get("who", "unknown"), time.monotonic() + SILENCE
        log.info("%s was in use by %s; watching for %.0f s whether it lives", self.store.address, who, SILENCE)
        while time.monotonic() < end:
            time.sleep(min(BEAT / 4, SILENCE / 8))
            now = self._read()
            if not now:
                return
            if now != first:
                raise self._busy(first)

    def _busy(self, other: dict) -> Busy:
        who = other.get("who", "unknown")
        return Busy(
            f"another run ({who}) is at work in {self.store.address}; wait for its end, stop it, or give another "
            "--workdir.",
            who,
        )

    def check(self) -> None:
        """Raises UserError if another run has taken the folder, for example while this one was stopped."""
        found = self._read()
        if found and found.get("token") != self.token:
            raise UserError(
                f"another run ({found.get('who', 'unknown')}) has taken {self.store.address}; this one stops, and what "
                "it has not copied there stays behind."
            )

    def close(self) -> None:
        """Gives the folder back."""
        self._stop.set()
        self._thread.join(timeout=30)
        with contextlib.suppress(UserError):  # the next run waits, or takes it
            self.check()
            self.store.delete(NAME)

    def _read(self) -> dict:
        data = self.store.read(NAME)
        try:
            found = json.loads(data) if data else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    def _write(self) -> None:
        self._beats += 1
        who = f"process {os.getpid()} on {socket.gethostname()}"
        content = {"token": self.token, "host": self.host, "who": who, "beat": self._beats}
        self.store.write(NAME, json.dumps(content).encode())

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                self.check()
                self._write()
            except RemoteError:
                continue  # a push says so
            except UserError:
                return  # taken: the next push ends this run


def host_name(lock: Path) -> str:
    """Returns what tells the local copies of all hosts apart; lock: file beside the copy, locked by this run."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    status = lock.stat()
    return f"{socket.gethostname()} {boot} {status.st_dev}:{status.st_ino}"
