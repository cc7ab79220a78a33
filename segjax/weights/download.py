"""Downloads a published weight file once, checks its hash and keeps it."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from segjax.errors import UserError
from segjax.files import file_sha256, replacing

log = logging.getLogger("segjax")

CHUNK = 2**20
TIMEOUT = 30.0  # seconds without an answer
MAX_BYTES = 8 * 2**30  # of a file; published networks for segmentation have less than a tenth of it


def cache_dir() -> Path:
    """Returns the folder of downloaded weights: $SEGJAX_WEIGHTS_DIR, else ~/.cache/segjax/weights."""
    return Path(os.environ.get("SEGJAX_WEIGHTS_DIR") or "~/.cache/segjax/weights").expanduser()


def fetch(url: str, sha256: str) -> Path:
    """Returns the path of the file at url in the cache, which is downloaded if needed.

    The file appears under its name when it is complete and has the expected hash.

    sha256: hash of the content, or its first digits (PyTorch's file names have eight); "" = unknown: the file's own is
        logged.

    Raises UserError if the download fails, is cut off, has more than MAX_BYTES or another hash (with what to download
    and where to put it), or if the cache cannot be written.
    """
    path = cache_dir() / url.rsplit("/", 1)[1]
    if path.is_file():
        if sha256:
            _check_hash(file_sha256(path), sha256, f"the file {path}", "delete it, and it is downloaded again")
        return path
    log.info("downloading %s to %s", url, path)
    remedy = f"download it by other means and save it as {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot keep weights in {path.parent}: {error.strerror}; set SEGJAX_WEIGHTS_DIR to a folder that can be "
            "written."
        ) from None
    try:
        with replacing(path) as part:
            found = _download(url, part, checked=bool(sha256))
            _check_hash(found, sha256, f"what {url} gives", remedy)
        if not sha256:
            log.warning("the hash of %s is not known beforehand, so it was not checked; its sha256 is %s", path, found)
    except urllib.error.HTTPError as error:
        raise UserError(f"cannot download {url}: the server answers {error.code} {error.reason}; {remedy}.") from None
    except (OSError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise UserError(f"cannot download {url}: {reason}; {remedy}.") from None
    return path


def _download(url: str, path: Path, *, checked: bool) -> str:
    """Writes the body to path and returns its sha256. checked: whether the hash will tell a part from the whole.

    Raises OSError for a body that is, or may be, a part of the file, and for one that is too large.
    """
    digest, size = hashlib.sha256(), 0
    with _open(url) as response, open(path, "wb") as file:
        if response.status != 200:
            raise OSError(f"the server gives a part of it ({response.status} {response.reason})")
        expected = None if response.chunked else _length(response.headers.get("Content-Length"))
        _check_size(expected or 0)
        free = shutil.disk_usage(path.parent).free
        if expected and expected > free:
            raise OSError(f"it has {expected / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free in {path.parent}")
        while chunk := response.read(CHUNK):  # chunks of the server that are cut off raise an error
            size += len(chunk)
            _check_size(size)
            file.write(chunk)
            digest.update(chunk)
        known = response.chunked or checked
    if expected is not None and size != expected:
        raise OSError(f"the connection ended after {size} of {expected} bytes")
    if expected is None and not known and not _ends_at(url, size):
        raise OSError(f"the server does not say how long it is, so that the {size} bytes that came may be a part of it")
    return digest.hexdigest()


def _open(url: str, **headers: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "segjax", **headers})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _length(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise OSError(f"it has more than {MAX_BYTES / 1e9:.1f} GB, the most that is downloaded")


def _ends_at(url: str, size: int) -> bool:
    """Returns whether the file has no more than `size` bytes: the server is asked for those behind them."""
    try:
        with _open(url, Range=f"bytes={size}-"):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 416 and error.headers.get("Content-Range", f"bytes */{size}") == f"bytes */{size}"


def _check_hash(found: str, expected: str, what: str, remedy: str) -> None:
    if not found.startswith(expected):
        raise UserError(f"{what} has the sha256 {found[:16]}..., not {expected}..., so it was not used; {remedy}.")
