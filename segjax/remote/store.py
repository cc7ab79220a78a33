"""Requests to a bucket: read, write, delete and list objects; errors as sentences.

tensorstore makes them. orbax needs it anyway, so that a bucket needs no other package; it finds the credentials of a
TPU's or a cluster's host, and of gcloud and aws on other machines. gcsfs and s3fs would bring 40 packages, and a
listing that is cached in each process.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from segjax.errors import UserError
from segjax.remote.address import Address

RETRIES = {"max_retries": 4, "initial_delay": "250ms", "max_delay": "4s"}
PATIENCE = 30.0  # seconds for a request, beside those for its bytes
SLOWEST = 2**18  # bytes per second
TOGETHER = 8  # requests at a time


class RemoteError(UserError):
    """An error of a bucket; passing: whether a later try may succeed without the user's help."""

    def __init__(self, sentence: str, *, passing: bool = False):
        super().__init__(sentence)
        self.passing = passing


class Store:
    """The objects below an address; safe to use from several threads.

    All methods raise RemoteError if the bucket does not exist, refuses, is full, or does not answer.
    """

    def __init__(self, address: Address):
        self.address = address
        self._prefix = f"{address.path}/" if address.path else ""

    @functools.cached_property
    def _objects(self) -> Any:
        import tensorstore as ts

        return self._done(ts.KvStore.open(_spec(self.address)), "opened", "")

    def read(self, name: str) -> bytes | None:
        """Returns the content of an object; None if there is no such object."""
        found = self._done(self._objects.read(self._prefix + name), "read", name)
        return found.value if found.state == "value" else None

    def write(self, name: str, data: bytes) -> None:
        """Writes an object; a reader sees the old content or the new one."""
        self._done(self._objects.write(self._prefix + name, data), "written", name, len(data))

    def delete(self, name: str) -> None:
        """Deletes an object, if there is one."""
        self._done(self._objects.write(self._prefix + name, None), "deleted", name)

    def has(self, name: str, size: int) -> bool:
        """Returns whether there is an object; size: its length in bytes, as far as it is known."""
        span = slice(0, 1) if size else None  # its first byte is enough
        return self._done(self._objects.read(self._prefix + name, byte_range=span), "read", name).state == "value"

    def names(self) -> list[str]:
        """Returns the names of all objects below the address, in order, as far as the bucket lists them.

        tensorstore 0.1.86 takes some refusals of Google's service for the end of the list: what is missing in it may
        still be there, see `has`.
        """
        import tensorstore as ts

        first = self._prefix
        span = ts.KvStore.KeyRange(first, first[:-1] + "0") if first else ts.KvStore.KeyRange()  # "0" follows "/"
        keys = (key.decode(errors="surrogateescape") for key in self._done(self._objects.list(span), "listed", ""))
        # a service of the protocol that does not know ranges returns all
        return sorted(key.removeprefix(first) for key in keys if key.startswith(first))

    def _done(self, future: Any, verb: str, name: str, size: int = 0) -> Any:
        place = str(self.address / name) if name else str(self.address)
        try:
            return future.result(timeout=PATIENCE + size / SLOWEST)
        except TimeoutError:
            future.cancel()
            raise RemoteError(
                f"{place} cannot be {verb}: the bucket does not answer in {PATIENCE + size / SLOWEST:.0f} s; what is "
                "in the bucket stays whole, and the same command resumes.",
                passing=True,
            ) from None
        except Exception as error:  # noqa: BLE001 (tensorstore has ValueError for nearly everything)
            raise _explained(self.address, place, verb, str(error)) from None


def _spec(address: Address) -> dict[str, Any]:
    found: dict[str, Any] = {"bucket": address.bucket}
    if address.scheme == "gs":
        return {**found, "driver": "gcs", "context": {"gcs_request_retries": RETRIES}}
    found.update(driver="s3", context={"s3_request_retries": RETRIES})
    # tensorstore does not read the variables of AWS's own tools that name another service of this protocol
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        found["endpoint"] = endpoint
        found["aws_region"] = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return found


def _explained(address: Address, place: str, verb: str, text: str) -> RemoteError:
    """Returns the sentence for an error of tensorstore, whose text has the status of the answer."""
    first = " ".join(re.split(r"\[(?:http_response|x-amzn|tensorstore|source)", text)[0].split())[:160].rstrip(": ")
    code = re.search(r"http_response_code='(\d+)'", text)
    code = code[1] if code else ""
    kept = "what is in the bucket stays whole, and the same command resumes"
    if code == "507" or re.search("quota|insufficient ?storage|storage limit", text, re.IGNORECASE):
        return RemoteError(
            f"{place} cannot be {verb}: the bucket is full, or its quota is used up; free some of it or raise the "
            f"quota, then start the same command again ({kept})."
        )
    if code in ("401", "403") or "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
        return RemoteError(
            f"{place} cannot be {verb}: no permission for the bucket ({code or 'denied'}); give this account the right "
            f"to list, read, write and delete its objects, or log in ({_LOGIN[address.scheme]})."
        )
    if code == "404" or "NOT_FOUND" in text:
        return RemoteError(
            f"{place} cannot be {verb}: there is no bucket {address.bucket!r}; check the name, or create the bucket."
        )
    return RemoteError(f"{place} cannot be {verb} ({first}); {kept}.", passing=True)


_LOGIN = {
    "gs": "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}


def in_threads(function: Any, items: Any) -> Iterator[Any]:
    """Yields function(item) of all items in their order, computed by several threads; raises the first error."""
    with ThreadPoolExecutor(TOGETHER, thread_name_prefix="bucket") as threads:
        try:
            yield from threads.map(function, items)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
