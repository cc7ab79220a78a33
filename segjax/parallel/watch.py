"""Watching each other: if a process of several dies or hangs, the others end with a sentence that names it.

Otherwise they would wait for it in a collective, and then be ended by jax (after a minute, by SIGABRT). Each process
holds a connection to process 0. The system closes it with the process, however that ends; if a whole host is lost,
unanswered probes do. Both ends also send a beat: a process that is stopped, or starved by its host, sends none. Process
0 tells the others.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator

import jax

from segjax.errors import explain
from segjax.parallel.mesh import from_first
from segjax.parallel.messages import receive, send

log = logging.getLogger("segjax")

CONNECT = 10.0  # seconds to connect to process 0
VERDICT = 5.0  # seconds to wait for the news that another process has ended, if a collective fails here
FAREWELL = 2.0  # seconds that process 0 gives the others to say it and end, before it ends itself; less than VERDICT
PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a host that is silent for 30 seconds is lost
BEAT = 5.0  # seconds between signs of life
SILENT = 45.0  # seconds without one, after which a process counts as hanging; less than distributed.HEARTBEAT
TICK = 1.0
EXIT_CODE = 1


@contextlib.contextmanager
def watch_others(
    *, program: str, coordinator: str | None = None, orderly: tuple[type[BaseException], ...] = ()
) -> Iterator[None]:
    """Within it, the end of another process, or 45 seconds of silence, ends this one with a sentence.

    All processes must enter it.

    Leaving it without an error tells the others that all is well. After an error, this process does not wait for the
    others at its end, which would hide the error from whoever started it.

    program: name for the sentence.
    coordinator: "host:port" of process 0, as `setup` returns it; None = its address in the network.
    orderly: exceptions that end all processes together.

    Where process 0 cannot be reached, a warning says so, and jax notices the end of a process after a minute.
    """
    if jax.process_count() == 1:
        yield
        return
    watch = _Hub(program, coordinator) if jax.process_index() == 0 else None
    address, port, token = json.loads(from_first(json.dumps(watch.place) if watch else ""))
    watch = watch or _Spoke(program, (address, port), token)
    watch.start()
    try:
        yield
    except orderly:
        watch.leave()
        raise
    except BaseException as error:
        if isinstance(error, RuntimeError):  # a failed collective may be the first news of the end of another process
            watch.gone.wait(VERDICT)
        _end_without_waiting(error)
        raise
    watch.leave()


def _end_without_waiting(error: BaseException) -> None:
    # jax's own handler waits for the other processes; the last one registered runs first
    try:
        code = explain(error)[1]
    except BaseException:  # noqa: BLE001 (explain raises what it does not know)
        code = 1

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(end)


class _Watch(threading.Thread):
    """The thread of a process. gone: set when another process has ended."""

    def __init__(self, program: str):
        super().__init__(name="watch", daemon=True)
        self.program = program
        self.gone = threading.Event()
        self.left = False
        self._beaten = time.monotonic()

    def end(self, sentence: str) -> None:
        """Ends this process with a sentence, whatever its other threads wait for."""
        self.gone.set()
        os.write(2, f"{self.program}: error: {sentence}\n".encode())
        os._exit(EXIT_CODE)

    def beat(self, connections) -> None:
        """Sends a sign of life if it is time."""
        if time.monotonic() - self._beaten > BEAT:
            self._beaten = time.monotonic()
            send(connections, "beat")


class _Hub(_Watch):
    """The watch of process 0, which hears of all and tells all."""

    def __init__(self, program: str, coordinator: str | None):
        super().__init__(program)
        host = coordinator.rpartition(":")[0] if coordinator else _own_address()
        family = socket.AF_INET6 if ":" in host.strip("[]") else socket.AF_INET
        self._server = socket.create_server(("", 0), family=family, backlog=jax.process_count())
        self.place = (host.strip("[]"), self._server.getsockname()[1], secrets.token_hex(8))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._names: dict[socket.socket, str] = {}  # those that have not left
        self._heard: dict[socket.socket, float] = {}  # when
        self._lock = threading.Lock()

    def run(self) -> None:
        woken = time.monotonic()
        while not self.left:
            for key, _ in self._selector.select(timeout=TICK):
                if key.fileobj is self._server:
                    self._admit()
                else:
                    self._hear(key.fileobj)
            with self._lock:
                self.beat(self._names)
            asleep, woken = time.monotonic() - woken, time.monotonic()
            if asleep > SILENT / 2:  # it was this process that hung, and the others may have been stopped with it
                self._heard = dict.fromkeys(self._heard, woken)
            self._end_if_one_hangs()
        self._server.close()

    def _end_if_one_hangs(self) -> None:
        with self._lock:
            for connection, name in self._names.items():
                if not self.left and time.monotonic() - self._heard[connection] > SILENT:
                    self._end_all(_hanging(name), hanging=connection)

    def _end_all(self, sentence: str, hanging: socket.socket | None = None) -> None:
        """Ends the other processes with a sentence, then this one.

        This one last: when process 0 ends, jax aborts the others, maybe before they have read the sentence.
        """
        send(self._names, sentence)
        deadline = time.monotonic() + FAREWELL
        for connection in self._names.keys() - {hanging}:
            with contextlib.suppress(OSError):
                connection.settimeout(max(deadline - time.monotonic(), 0.01))
                while connection.recv(4096) and time.monotonic() < deadline:  # beats, until the process has ended
                    pass
        self.end(sentence)

    def leave(self) -> None:
        with self._lock:
            self.left = True
            send(self._names, "bye")

    def _admit(self) -> None:
        connection, _ = self._server.accept()
        connection.settimeout(CONNECT)
        message = receive(connection)
        if not isinstance(message, list) or len(message) != 2 or message[0] != self.place[2]:
            connection.close()  # a stranger
            return
        _probe(connection)
        with self._lock:
            self._names[connection] = str(message[1])
            self._heard[connection] = time.monotonic()
        self._selector.register(connection, selectors.EVENT_READ)
        send([connection], _name())

    def _hear(self, connection: socket.socket) -> None:
        word = receive(connection)
        if word == "beat":
            self._heard[connection] = time.monotonic()
            return
        with self._lock:
            self._selector.unregister(connection)
            name = self._names.pop(connection)
            if word or self.left:  # it has left in order
                return
            self._end_all(_sentence(name))


class _Spoke(_Watch):
    """The watch of any other process, which hears process 0."""

    def __init__(self, program: str, place: tuple[str, int], token: str):
        super().__init__(program)
        self._first = "process 0"
        self._connection = None
        try:
            self._connection = socket.create_connection(place, timeout=CONNECT)
            _probe(self._connection)
            send([self._connection], [token, _name()])
            self._first = receive(self._connection) or self._first
            self._connection.settimeout(None)
        except OSError as error:
            self._connection = None
            log.warning(
                "process 0 cannot be watched: no connection to %s:%d (%s); if a process dies, the others end after a "
                "minute, without a sentence",
                *place,
                error.strerror or error,
            )

    def run(self) -> None:
        if self._connection is None:
            return
        heard, word = time.monotonic(), "beat"
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            while word == "beat" and not self.left:
                began = time.monotonic()
                if selector.select(timeout=TICK):
                    word, heard = receive(self._connection), time.monotonic()
                elif time.monotonic() - began > SILENT / 2:  # it was this process that hung
                    heard = time.monotonic()
                elif time.monotonic() - heard > SILENT:
                    word = _hanging(self._first)
                self.beat([self._connection])
        if not self.left and word != "bye":
            self.end(word or _sentence(self._first))

    def leave(self) -> None:
        self.left = True
        if self._connection is not None:
            send([self._connection], "bye")


def _name() -> str:
    return f"process {jax.process_index()} of {jax.process_count()} (pid {os.getpid()} on {socket.gethostname()})"


def _sentence(name: str) -> str:
    return (
        f"{name} has ended in the middle of the work, and its own output may say why; the same command, started again "
        "for every process, resumes."
    )


def _hanging(name: str) -> str:
    return (
        f"{name} has given no sign of life for {SILENT:.0f} seconds, so it or its host hangs; end it there (kill -9), "
        "and start the same command again for every process: it resumes."
    )


def _probe(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        if hasattr(socket, option):  # other systems have other names, and their own times
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))  # sends nothing; the system chooses the address that others see
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
