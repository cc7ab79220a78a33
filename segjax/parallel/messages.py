"""Short messages between processes: a line of JSON each."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable
from typing import Any


def send(connections: Iterable[socket.socket], message: Any) -> None:
    """Sends a message; connections that have ended are skipped."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(message).encode() + b"\n")


def receive(connection: socket.socket) -> Any:
    """Returns the next message; None if the connection has ended, or what comes is no message."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < 4096:
            if not (byte := connection.recv(1)):  # messages are few and short
                return None
            line += byte
        return json.loads(line)
    except (OSError, ValueError, RecursionError):
        return None
