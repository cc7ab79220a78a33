"""Downloads from a server on this machine: once, checked, and nothing kept of what is not the file."""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from segjax.errors import UserError
from segjax.weights import download
from segjax.weights.download import fetch

BODY = bytes(range(256)) * 9000  # more than one chunk
SHA256 = hashlib.sha256(BODY).hexdigest()


HALF = len(BODY) // 2
# path -> (status, headers, body) of what a server does that gives a part of the file, or no length
ODD = {
    "/half.pth": (200, {"Content-Length": len(BODY)}, BODY[:HALF]),
    "/part.pth": (206, {"Content-Length": HALF, "Content-Range": f"bytes 0-{HALF - 1}/{len(BODY)}"}, BODY[:HALF]),
    "/silent.pth": (200, {}, BODY[:HALF]),
    "/words.pth": (200, {"Content-Length": "many"}, BODY[:HALF]),
    "/ranges.pth": (200, {}, BODY),
    "/ranges_half.pth": (200, {}, BODY[:HALF]),
    "/chunks.pth": (200, {"Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "/chunks_half.pth": (200, {"Transfer-Encoding": "chunked"}, b"%x\r\n%s" % (len(BODY), BODY[:HALF])),
    "/huge.pth": (200, {"Content-Length": 10**15}, BODY),
    "/empty.pth": (200, {}, b""),
}


class Handler(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        Handler.asked.append(self.path)
        if self.path == "/absent.pth":
            self.send_error(404)
            return
        begin = self.headers.get("Range", "bytes=0-")[6:-1]
        if self.path.startswith("/ranges") and int(begin):
            whole = int(begin) == len(BODY)
            self.send_response(416 if whole else 206)
            self.send_header("Content-Range", f"bytes */{len(BODY)}" if whole else f"bytes {begin}-/{len(BODY)}")
            self.end_headers()
            return
        status, headers, body = ODD.get(self.path, (200, {"Content-Length": len(BODY)}, BODY))
        self.protocol_version = "HTTP/1.1" if "Transfer-Encoding" in headers else "HTTP/1.0"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who has seen enough goes away
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGJAX_WEIGHTS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.asked.clear()
    return tmp_path / "cache"


@pytest.mark.parametrize("digits", [8, 64])
def test_a_file_is_downloaded_once(site, cache, digits):
    for _ in range(2):
        path = fetch(f"{site}net.pth", SHA256[:digits])
        assert path == cache / "net.pth" and path.read_bytes() == BODY
    assert Handler.asked == ["/net.pth"]
    assert [p.name for p in cache.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    "name, sha256, text",
    [
        (
            "half.pth",
            SHA256,
            rf"the connection ended after {len(BODY) // 2} of {len(BODY)} bytes; download it by other",
        ),
        ("net.pth", "deadbeef", rf"has the sha256 {SHA256[:16]}..., not deadbeef..., so it was not used; download it"),
        ("absent.pth", SHA256, "the server answers 404 Not Found; download it by other means and save it as"),
    ],
)
def test_what_is_not_the_file_is_not_kept(site, cache, name, sha256, text):
    with pytest.raises(UserError, match=text) as error:
        fetch(site + name, sha256)
    assert str(cache / name) in str(error.value) and site in str(error.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "name, text",
    [
        ("half.pth", f"the connection ended after {HALF} of {len(BODY)} bytes"),
        ("part.pth", "the server gives a part of it .206 Partial Content."),
        ("silent.pth", f"does not say how long it is, so that the {HALF} bytes that came may be a part of it"),
        ("words.pth", "does not say how long it is"),
        ("ranges_half.pth", "does not say how long it is"),
        ("chunks_half.pth", "IncompleteRead"),
        ("huge.pth", "it has more than 8.6 GB, the most that is downloaded"),
        ("empty.pth", "does not say how long it is"),
    ],
)
def test_a_part_of_a_file_whose_hash_nobody_knows_is_not_kept(site, cache, name, text):
    with pytest.raises(
        UserError, match=f"cannot download {site}{name}: .*{text}.*; download it by other means"
    ) as error:
        fetch(site + name, "")
    assert "\n" not in str(error.value) and list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["ranges.pth", "chunks.pth"])
def test_a_server_tells_the_end_in_other_ways_than_by_the_length(site, name):
    assert fetch(site + name, "").read_bytes() == BODY


def test_a_hash_tells_the_end_too(site):
    with pytest.raises(UserError, match="has the sha256"):
        fetch(f"{site}silent.pth", SHA256)
    assert fetch(f"{site}silent.pth", hashlib.sha256(BODY[:HALF]).hexdigest()).read_bytes() == BODY[:HALF]


@pytest.mark.parametrize("name", ["net.pth", "ranges.pth", "chunks.pth"])
def test_a_body_without_end_stops_at_the_limit(site, cache, monkeypatch, name):
    monkeypatch.setattr(download, "MAX_BYTES", len(BODY) - 1)
    with pytest.raises(UserError, match="the most that is downloaded; download it by other means"):
        fetch(site + name, SHA256)
    assert list(cache.iterdir()) == []


def test_what_the_disk_cannot_hold_is_not_begun(site, cache, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="it has 2.3 MB, and 0.0 MB are free in .*cache; download"):
        fetch(f"{site}net.pth", SHA256)
    assert list(cache.iterdir()) == []


def test_a_file_whose_hash_nobody_knows_is_taken_and_its_hash_told(site, cache, caplog):
    with caplog.at_level("WARNING", logger="segjax"):
        assert fetch(f"{site}net.pth", "").read_bytes() == BODY
    assert f"net.pth is not known beforehand, so it was not checked; its sha256 is {SHA256}" in caplog.text
    assert fetch(f"{site}net.pth", "") == cache / "net.pth" and len(caplog.records) == 1


def test_without_network_the_sentence_says_what_to_do(cache):
    with pytest.raises(UserError, match="cannot download http://127.0.0.1:9/net.pth: .*refused") as error:
        fetch("http://127.0.0.1:9/net.pth", SHA256)
    assert f"download it by other means and save it as {cache / 'net.pth'}" in str(error.value)


def test_a_file_put_there_by_hand_is_taken_and_checked(cache):
    cache.mkdir()
    (cache / "net.pth").write_bytes(BODY)
    assert fetch("http://127.0.0.1:9/net.pth", SHA256[:8]) == cache / "net.pth"
    (cache / "net.pth").write_bytes(BODY[:-1])
    with pytest.raises(UserError, match=r"the file .*net.pth has the sha256 .* delete it, and it is downloaded again"):
        fetch("http://127.0.0.1:9/net.pth", SHA256[:8])


def test_a_folder_that_cannot_be_written_is_named(site, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGJAX_WEIGHTS_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot keep weights in .*file: File exists; set SEGJAX_WEIGHTS_DIR"):
        fetch(f"{site}net.pth", SHA256)
