"""The roll call before jax joins the processes of a run: who is there, and do all mean the same run?

jax's own start-up ends a process by SIGABRT and a stack trace if another is missing, unreachable or started with other
numbers, or if the port is taken (jaxlib 0.10); with too small a number it begins without the rest. So process 0 first
answers at the coordinator's port itself, until all have called; then it leaves the port to jax.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import time
from typing import NoReturn

from segjax.errors import NotYet, UserError, brief
from segjax.parallel.messages import receive, send
from segjax.parallel.processes import Processes

log = logging.getLogger("segjax")

WAIT = 300.0  # seconds until all processes must have called; machines of a cluster start minutes apart
SAY = 15.0  # seconds between lines about what is waited for
RETRY = 0.3  # seconds between calls
TICK = 0.2  # seconds that process 0 waits for a call before it looks after the others
HELLO = "segjax roll call"


def call_roll(processes: Processes, *, wait: float | None = None) -> None:
    """Returns when all processes of the run are there; they must call it together.

    While it waits, it logs for what every 15 seconds.

    wait: seconds; None = WAIT.

    Raises NotYet if processes are missing or process 0 cannot be reached; UserError if its port is taken, or processes
    were started with other numbers or the same index. All processes that take part then raise the same sentence.
    """
    deadline = time.monotonic() + (WAIT if wait is None else wait)
    (_answer if processes.index == 0 else _call)(processes, deadline)


def _answer(processes: Processes, deadline: float) -> None:
    """The part of process 0."""
    host, port = _place(processes)
    try:
        server = _listen(port, processes.count)
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen at port {port} of this host ({os.strerror(error.errno)}); end the run that holds "
            "it, or choose another port in --coordinator."
        ) from error
    here: dict[int, tuple[str, socket.socket]] = {0: (_name(), server)}
    said, warned = time.monotonic(), False
    with server, contextlib.ExitStack() as connections:
        while len(here) < processes.count:
            server.settimeout(TICK)
            with contextlib.suppress(OSError):
                connection = connections.enter_context(server.accept()[0])
                problem = _admit(connection, processes, here)
                if problem:
                    _refuse(here, connection, UserError(problem))
            gone = [index for index, (_, held) in here.items() if held is not server and _has_gone(held)]
            for index in gone:  # it was ended, and may be started again
                del here[index]
            missing = _missing(processes, here)
            if time.monotonic() > deadline:
                _refuse(here, server, NotYet(f"{missing} did not join the run at {processes.coordinator}; {_REMEDY}"))
            if missing and time.monotonic() - said > SAY:
                said = time.monotonic()
                log.info("waiting at port %d for %s", port, missing)
                if not warned:  # not before: a cluster may be slow to know the name of a new machine
                    warned = True
                    _warn_if_elsewhere(host, port)
        others = [held for _, held in here.values() if held is not server]
        send(others, "go")
        for held in others:  # whoever closes a connection first keeps its port busy
            held.settimeout(5)
            with contextlib.suppress(OSError):
                held.recv(1)


_REMEDY = "start the same command for every process, with the same --num_processes and another --process_id each."


def _missing(processes: Processes, here) -> str:
    absent = [index for index in range(processes.count) if index not in here]
    if not absent:
        return ""
    shown = ", ".join(map(str, absent[:8])) + (" and more" if len(absent) > 8 else "")
    return f"{len(absent)} of {processes.count} processes ({shown})"


def _admit(connection: socket.socket, processes: Processes, here) -> str:
    """Hears one caller; returns what is wrong with it, "" if nothing is or it is a stranger."""
    send([connection], [HELLO, processes.count])
    connection.settimeout(5)
    message = receive(connection)
    if not isinstance(message, list) or len(message) != 4 or message[0] != HELLO:
        connection.close()  # a stranger
        return ""
    _, count, index, name = message
    if count != processes.count:
        return (
            f"process {index} ({name}) was started with --num_processes={count}, and process 0 ({_name()}) with "
            f"{processes.count}; {_REMEDY}"
        )
    if index in here and not _has_gone(here[index][1]):
        return f"two processes have --process_id={index} ({here[index][0]}; {name}); {_REMEDY}"
    here[index] = (str(name), connection)
    return ""


def _call(processes: Processes, deadline: float) -> None:
    """The part of any other process."""
    said = time.monotonic()
    while True:
        answer, problem = _call_once(processes, deadline)
        if answer == "go":
            return
        if answer:
            raise (NotYet if answer["again"] else UserError)(answer["error"])
        if time.monotonic() > deadline:
            raise NotYet(
                f"process {processes.index} of {processes.count} cannot reach process 0 at {processes.coordinator} "
                f"({problem}); check the host's name, that process 0 runs there, and that no firewall closes the port."
            )
        if time.monotonic() - said > SAY:
            said = time.monotonic()
            log.info("waiting for process 0 at %s (%s)", processes.coordinator, problem)
        time.sleep(RETRY)


def _call_once(processes: Processes, deadline: float) -> tuple[str | dict, str]:
    """Returns what process 0 has decided, "go" or its error; "" if it cannot be reached, and then why."""
    try:
        connection = socket.create_connection(_place(processes), timeout=5)
    except socket.gaierror:
        return "", "no host of this name is known"
    except OSError as error:
        return "", error.strerror or str(error)
    with connection:
        hello = receive(connection)
        if not isinstance(hello, list) or hello[:1] != [HELLO]:
            return "", "what answers there is another program, or a run that has begun"
        send([connection], [HELLO, processes.count, processes.index, _name()])
        connection.settimeout(max(deadline + 10 - time.monotonic(), 1))  # process 0 ends first, and has the reason
        answer = receive(connection)
        known = answer == "go" or isinstance(answer, dict) and {"error", "again"} <= set(answer)
        return (answer, "") if known else ("", "process 0 has ended while it waited for others")


def _place(processes: Processes) -> tuple[str, int]:
    host, _, port = processes.coordinator.rpartition(":")
    return host.strip("[]"), int(port)


def _listen(port: int, count: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()  # as jax listens
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=count)


def _warn_if_elsewhere(host: str, port: int) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address[0], 0))
    except socket.gaierror:
        log.warning("this is process 0, and its own name in --coordinator=%s:%d is not known here", host, port)
    except OSError:
        log.warning(
            "this is process 0 on %s; the others will look for it at --coordinator=%s:%d, which may be another machine",
            socket.gethostname(),
            host,
            port,
        )


def _has_gone(connection: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        if not selector.select(0):
            return False
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _refuse(here, last: socket.socket, error: UserError) -> NoReturn:
    connections = [last, *(held for _, held in here.values())]
    send(connections, {"error": str(error), "again": isinstance(error, NotYet)})
    raise error


def _name() -> str:
    return brief(f"pid {os.getpid()} on {socket.gethostname()}")
