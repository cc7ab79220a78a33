"""Files that are whole or not there, settings as text that can be compared, and errors of the disk as sentences."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.errors import UserError


def plain(config: Any) -> Any:
    """The config as nested dicts, lists and numbers."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return config


def as_text(config: Any) -> str:
    """The config as JSON text, the same for equal configs."""
    return json.dumps(plain(config), indent=1, sort_keys=True)


def config_hash(*configs: Any) -> str:
    """12 hex digits that change when any value changes."""
    return hashlib.sha256("\n".join(map(as_text, configs)).encode()).hexdigest()[:12]


def differences(old: Any, new: Any, *, where: str) -> list[str]:
    """What changed between two plain configs, as "key: old -> new", a key that one of them lacks as "nothing"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        parts = (differences(old.get(k, _NOTHING), new.get(k, _NOTHING), where=f"{where}.{k}") for k in keys)
        return [line for part in parts for line in part]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def write_file(path: Path, data: bytes) -> None:
    """Writes a small file, which appears by one rename."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    part.write_bytes(data)
    sync(part)
    os.replace(part, path)


def sync(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def link(source: Path, target: Path) -> None:
    """The same file under another name."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


@contextlib.contextmanager
def creating(path: Path, *, option: str = "data_dir or SEGJAX_DATA_DIR") -> Iterator[None]:
    """Turns a full disk or missing permission into one sentence; option: what chooses another place."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as RuntimeError
        if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            raise UserError(
                f"the disk is full while building {path}; free space or choose another place with {option}"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise UserError(
                f"{path} cannot be created ({error.strerror}); choose another place with {option}"
            ) from error
        raise
