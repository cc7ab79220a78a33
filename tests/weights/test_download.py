"""Downloads from a server on this machine: once, checked, and nothing kept of what is not the file."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from segjax.errors import UserError
from segjax.weights.download import fetch

BODY = bytes(range(256)) * 9000  # more than one chunk
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        Handler.asked.append(self.path)
        if self.path == "/absent.pth":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2] if self.path == "/half.pth" else BODY)

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
