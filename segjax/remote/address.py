"""Addresses of places in a bucket: gs://bucket/path and s3://bucket/path."""

from __future__ import annotations

import dataclasses
import os
import re

from segjax.errors import UserError, brief

SCHEMES = ("gs", "s3")
_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")  # a drive of Windows has one letter
_ALIASES = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "gs": "gs", "s3": "s3"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")  # both services allow no other names


@dataclasses.dataclass(frozen=True)
class Address:
    """A place in a bucket.

    scheme: "gs" or "s3".
    bucket: its name.
    path: below the bucket, without slashes at its ends; "" for the bucket itself.
    """

    scheme: str
    bucket: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.path}" if self.path else "")

    def __truediv__(self, name: str) -> Address:
        return dataclasses.replace(self, path=f"{self.path}/{name}" if self.path else name)

    @property
    def parents(self) -> list[Address]:
        """The places above this one, the nearest first; the bucket is the last."""
        parts = self.path.split("/") if self.path else []
        return [dataclasses.replace(self, path="/".join(parts[:count])) for count in reversed(range(len(parts)))]


def is_remote(path: object) -> bool:
    """Returns whether a value is a remote address, well-formed or not: it begins with a scheme such as gs:/."""
    return isinstance(path, (str, os.PathLike)) and bool(_REMOTE.match(os.fspath(path)))


def read_address(path: str | os.PathLike, option: str) -> Address:
    """Reads an address such as gs://bucket/runs/first.

    option: what it is the value of, for errors.

    Raises UserError for an unknown scheme, a missing slash, a missing or impossible bucket, and a path with empty parts
    or "..".
    """
    text = os.fspath(path)
    scheme, _, rest = text.partition(":")
    shown = f"{option}={brief(text)}"
    known = _ALIASES.get(scheme.lower())
    if known is None:
        raise UserError(
            f"{shown} is a remote address that segjax cannot read; it reads and writes gs:// and s3://, so mount the "
            "place and give the mount point, or copy it."
        )
    bucket, _, below = rest.lstrip("/").partition("/")
    below = below.rstrip("/")
    if scheme != known or not rest.startswith("//"):
        raise UserError(f"{shown} is no address of a bucket. Did you mean {known}://{brief(rest.lstrip('/'))}?")
    if rest.startswith("///") or not _BUCKET.fullmatch(bucket):
        raise UserError(f"{shown} names no bucket ({bucket!r} cannot be one); an address is {known}://bucket/folder.")
    if any(part in ("", ".", "..") for part in (below.split("/") if below else ())):
        raise UserError(f"{shown} has a part that is empty or has dots only; an address is {known}://bucket/folder.")
    return Address(known, bucket, below)


def check_address(path: object, option: str) -> None:
    """Raises UserError for a remote address that is malformed; any other value is accepted, see `read_address`."""
    if is_remote(path):
        read_address(path, option)
