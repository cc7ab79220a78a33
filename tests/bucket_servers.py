"""Servers of the two protocols of buckets on this machine, and a proxy before them that refuses, waits or cuts."""

import contextlib
import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator

BUCKET = "tests"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """Runs a server of Google's protocol with the bucket `BUCKET`; yields its address."""
    from gcp_storage_emulator import server

    class Request(server.Request):
        data = property(lambda self: _content(super().data))  # the emulator fails for empty objects

    server.Request, original = Request, server.Request
    # else every answer waits 40 ms for its second packet
    server.RequestHandler.disable_nagle_algorithm = True
    port = free_port()
    running = server.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    running.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.stop()
        server.Request = original


def _content(data: object) -> object:
    return b"" if data is None else data


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Runs a server of Amazon's protocol with the bucket `BUCKET`; yields its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    connection = http.client.HTTPConnection(host, port)
    connection.request("PUT", f"/{BUCKET}")
    connection.getresponse().read()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def variables(scheme: str, address: str) -> dict[str, str]:
    """Returns the variables of the environment that lead a program to a server; scheme: "gs" or "s3"."""
    if scheme == "gs":
        return {"TENSORSTORE_GCS_HTTP_URL": address}
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}
    return {"AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true", **keys}


class Proxy:
    """Passes requests on to a server, or answers itself.

    rule: (method, path) -> None to pass on, (status, text) to answer, or seconds to wait first.
    asked: the requests so far.
    """

    def __init__(self, upstream: str):
        self.upstream = upstream.removeprefix("http://")
        self.rule: Callable[[str, str], None | float | tuple[int, str]] = lambda method, path: None
        self.asked: list[tuple[str, str]] = []


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[tuple[str, Proxy]]:
    """Runs a proxy; yields its address and the `Proxy`, whose rule may be changed at any time."""
    state = Proxy(upstream)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            state.asked.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = state.rule(self.command, self.path)
            if isinstance(found, tuple):
                status, headers, data = found[0], {"Content-Type": "text/plain"}, found[1].encode()
            else:
                time.sleep(found or 0)
                connection = http.client.HTTPConnection(state.upstream, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                status, headers, data = response.status, dict(response.headers), response.read()
                connection.close()
            with contextlib.suppress(OSError):  # the client has given up
                self.send_response(status)
                skipped = {"transfer-encoding", "connection", "content-length", "server", "date"}
                for name, value in headers.items():
                    if name.lower() not in skipped:
                        self.send_header(name, value)
                length = headers.get("Content-Length", len(data)) if self.command == "HEAD" else len(data)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", state
        finally:
            server.shutdown()
