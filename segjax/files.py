"""Files: settings as text that can be compared, writes that are whole or absent, errors of the disk as sentences."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.errors import UserError

log = logging.getLogger("segjax")

# Settings as text


def plain(config: Any) -> Any:
    """Returns a config as nested dicts, lists and plain values."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return config


def as_text(config: Any) -> str:
    """Returns a config as JSON text, which is the same for equal configs."""
    return json.dumps(plain(config), indent=1, sort_keys=True)


def config_hash(*configs: Any) -> str:
    """Returns 12 hex digits that change when any value changes."""
    return hashlib.sha256("\n".join(map(as_text, configs)).encode()).hexdigest()[:12]


def differences(old: Any, new: Any, *, where: str = "") -> list[str]:
    """Lists what differs between two plain configs.

    where: path of the configs, which each entry begins with.
    Returns entries "key: old -> new"; a key that one of the two lacks is shown as "nothing".
    """
    if isinstance(old, dict) and isinstance(new, dict):
        dot = f"{where}." if where else ""
        keys = sorted({*old, *new})
        parts = (differences(old.get(k, _NOTHING), new.get(k, _NOTHING), where=f"{dot}{k}") for k in keys)
        return [line for part in parts for line in part]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()

# Atomic writes: a reader, another process or the next run sees the old file or the new one, never a part.


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields the path of a temporary file beside `path`, which takes its place when the block succeeds.

    The temporary name is unique, so that several processes and threads may write the same file; the last one wins.
    When the block raises, `path` keeps what it was and the temporary file is removed. An OSError names `path`.

    durable: whether to wait until the content is on the disk. Without, a power failure may leave an empty file, which
        only files that are checked or made again can afford.
    """
    part = part_of(path)
    try:
        yield part
        put(part, path, durable=durable)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        # a failed write has no name; errors without number, as those of downloads, have words of their own
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(part)):
            error.filename, error.filename2 = str(path), None
        raise


def write_file(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Writes a file, text as UTF-8; see `replacing`."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def as_stored(content: Any) -> Any:
    """Returns what a file that `write_json` has written contains: lists for tuples, null for what is not finite."""
    return json.loads(json.dumps(_finite(plain(content)), allow_nan=False))


def write_json(path: Path, content: Any) -> None:
    """Writes content as JSON; see `replacing`. Numbers that are not finite become null, as JSON has none of them."""
    write_file(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def part_of(path: Path, *, suffix: str = "") -> Path:
    """Returns a new temporary name beside `path`, hidden and unlike any other; suffix: what it must end with."""
    return path.with_name(f".{path.name}.part-{secrets.token_hex(6)}{suffix}")


def put(part: Path, path: Path, *, durable: bool = True) -> None:
    """Moves a complete temporary file to its place by one rename; see `replacing` for `durable`."""
    if durable:
        sync(part)
    os.replace(part, path)
    if durable:
        sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Removes the temporary files that killed processes left anywhere below a folder, which nobody may be writing."""
    for part in folder.rglob(".*.part*"):
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and some file systems cannot
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def link(source: Path, target: Path) -> None:
    """Gives a file a second name, or copies it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Notes beside unfinished work: what was begun with some settings is not completed with others.


def begin(note: Path, settings: Any, *, remedy: str, work: Path | None = None, where: str = "") -> bool:
    """Writes the settings beside work that begins, or checks that work to be resumed was begun with the same.

    Call it in one process, before any other writes there: temporary files that a killed process left are removed.

    note: JSON file in the folder of the work, which is made if needed.
    settings: plain values, or what `str` describes.
    remedy: end of the error's sentence.
    work: folder that the error names, by default that of the note.
    where: path that the error's differences begin with, see `differences`.

    Returns whether the work is new: there was no note.
    Raises UserError if the settings differ from those in the note, or it is damaged.
    """
    found = changes(note, settings, where=where)
    if found:
        raise UserError(f"{work or note.parent} was begun with other settings ({'; '.join(found)}); {remedy}")
    note.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(note.parent)
    if found is None:
        write_file(note, _note_text(settings))
    return found is None


def changes(note: Path, settings: Any, *, where: str = "") -> list[str] | None:
    """Lists how settings differ from those of a note, see `begin`; None without a note."""
    try:
        old = read_json(note)
    except FileNotFoundError:
        return None
    except ValueError:
        return [f"{note.name} is damaged"]
    return differences(old, json.loads(_note_text(settings)), where=where)


def write_note(note: Path, content: Mapping[str, Any]) -> None:
    """Writes plain data that marks a part of the work as done, with a digest; see `read_note`."""
    write_file(note, json.dumps({**content, _DIGEST: _digest(content)}))


def read_note(note: Path) -> dict[str, Any] | None:
    """Returns what `write_note` has written; None without a note and, with a warning, for a damaged one.

    So a part whose note is damaged is not done.
    """
    try:
        found = read_json(note)
        if isinstance(found, dict) and found.pop(_DIGEST, None) == _digest(found):
            return found
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    log.warning("%s is damaged; what it says to be done is done again", note)
    return None


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises FileNotFoundError without one, and ValueError for a damaged one."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None


_DIGEST = "sha256"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _note_text(settings: Any) -> str:
    return json.dumps(plain(settings), indent=1, sort_keys=True, default=str) + "\n"


# Errors of the disk as sentences


@contextlib.contextmanager
def creating(path: Path, *, option: str = "data_dir or SEGJAX_DATA_DIR") -> Iterator[None]:
    """Turns a full disk or a missing permission into a UserError; option: name of what chooses another place."""
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


@contextlib.contextmanager
def writing(path: Path, *, remedy: str = "free some space or give another folder") -> Iterator[None]:
    """Turns any error of the operating system into a UserError that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); {remedy}") from None
