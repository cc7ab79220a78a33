"""Downloads a published weight file once, checks its hash and keeps it."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from segjax.errors import UserError
from segjax.files import file_sha256, replacing

log = logging.getLogger("segjax")

CHUNK = 2**20
TIMEOUT = 30.0  # seconds without an answer


def cache_dir() -> Path:
    """Returns the folder of downloaded weights: $SEGJAX_WEIGHTS_DIR, else ~/.cache/segjax/weights."""
    return Path(os.environ.get("SEGJAX_WEIGHTS_DIR") or "~/.cache/segjax/weights").expanduser()


def fetch(url: str, sha256: str) -> Path:
    """Returns the path of the file at url in the cache, which is downloaded if needed.

    The file appears under its name when it is complete and has the expected hash.

    sha256: hash of the content, or its first digits (PyTorch's file names have eight); "" = unknown: the file's own is
        logged.

    Raises UserError if the download fails or the hash differs (with what to download and where to put it), or if the
    cache cannot be written.
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
            found = _download(url, part)
            _check_hash(found, sha256, f"what {url} gives", remedy)
        if not sha256:
            log.warning("the hash of %s is not known beforehand, so it was not checked; its sha256 is %s", path, found)
    except urllib.error.HTTPError as error:
        raise UserError(f"cannot download {url}: the server answers {error.code} {error.reason}; {remedy}.") from None
    except (OSError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise UserError(f"cannot download {url}: {reason}; {remedy}.") from None
    return path


def _download(url: str, path: Path) -> str:
    """Writes the body to path and returns its sha256."""
    digest, size = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "segjax"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, open(path, "wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        expected = response.headers.get("Content-Length")
    if expected is not None and size != int(expected):
        raise OSError(f"the connection ended after {size} of {expected} bytes")
    return digest.hexdigest()


def _check_hash(found: str, expected: str, what: str, remedy: str) -> None:
    if not found.startswith(expected):
        raise UserError(f"{what} has the sha256 {found[:16]}..., not {expected}..., so it was not used; {remedy}.")
