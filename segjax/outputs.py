"""Outputs of commands: nothing that a command reads is replaced, and no file that segjax did not write.

What a command has written into a folder is noted there, in `NOTE`. A file that is not in the note, or was changed
since, belongs to the user.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from segjax.errors import UserError
from segjax.files import read_json, write_json, writing
from segjax.remote import is_remote

NOTE = ".segjax-written.json"


def check_local(path: object, option: str) -> None:
    """Raises UserError for the address of a remote place, such as gs://bucket/runs; option: what it is the value of."""
    if is_remote(path):
        raise UserError(
            f"{option}={path} is a remote address, and only --workdir, --checkpoint and data_dir may be one (gs:// or "
            "s3://); mount the bucket (gcsfuse, mountpoint-s3) and give the mount point, or copy it."
        )


def check_outputs(
    folder: str | os.PathLike,
    names: Iterable[str],
    *,
    reads: Sequence[str | os.PathLike] = (),
    apart: bool = True,
    option: str = "--output",
) -> None:
    """Checks that files can be written without replacing what is read, or what segjax did not write.

    folder: of the outputs.
    names: paths in it; one that ends with "/" means everything in that folder.
    reads: files and folders that the command reads.
    apart: whether the outputs must lie outside of the folders that are read. They always must not be such a folder.
    option: the flag that names the outputs, for errors.

    Raises UserError with the first file that is in the way, for a remote address, and for a folder that is a file.
    """
    check_local(folder, option)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder; give another {option}")
    for read in map(Path, reads):
        place, root = folder.resolve(), read.resolve()
        if read.is_dir() and (place == root or (apart and root in place.parents)):
            raise UserError(
                f"{option} lies in {read}, which is read, so that the next call would read what this one writes; give "
                f"{option} a place outside of it"
            )
    inputs = {_identity(read) for read in map(Path, reads) if read.is_file()}
    note = _read(folder)
    for name in names:
        for path in sorted((folder / name).rglob("*")) if name.endswith("/") else [folder / name]:
            if not os.path.lexists(path) or path.is_dir() and name.endswith("/"):
                continue
            if path.is_dir():
                raise UserError(f"{path} is a folder, and a file is to be written there; give another {option}")
            if path.exists() and _identity(path) in inputs:
                raise UserError(f"{path} is read, and would be replaced; give another {option}")
            if (why := _foreign(path, path.relative_to(folder).as_posix(), note)) is not None:
                raise UserError(f"{path} exists and {why}; move it away, or give another {option}")


@contextlib.contextmanager
def writing_outputs(
    folder: str | os.PathLike,
    names: Iterable[str],
    *,
    reads: Sequence[str | os.PathLike] = (),
    apart: bool = True,
    option: str = "--output",
) -> Iterator[None]:
    """Checks the outputs, and notes at the end of the block which of them exist; arguments as in `check_outputs`.

    While the block runs, the note says what it may write: a call that was killed can be repeated.

    Raises UserError as `check_outputs` does.
    """
    names, folder = list(names), Path(folder)
    check_outputs(folder, names, reads=reads, apart=apart, option=option)
    note, new = _read(folder), not folder.exists()
    with writing(folder, remedy=f"give another {option}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / NOTE, {**note, "begun": sorted({*note["begun"], *names})})
    try:
        yield
    finally:
        note = _read(folder)
        files = dict(note["files"])
        for name in names:
            for path in (folder / name).rglob("*") if name.endswith("/") else [folder / name]:
                if path.is_file():
                    files[path.relative_to(folder).as_posix()] = _stamp(path)
        begun = sorted(set(note["begun"]).difference(names))
        with contextlib.suppress(OSError):  # a full disk: the block's own error says so
            if files or begun:
                write_json(folder / NOTE, {"files": dict(sorted(files.items())), "begun": begun})
            else:
                (folder / NOTE).unlink(missing_ok=True)
                if new:
                    folder.rmdir()


def writing_file(
    path: str | os.PathLike, *, reads: Sequence[str | os.PathLike] = (), option: str = "--output"
) -> contextlib.AbstractContextManager[None]:
    """Checks and notes the output of a command that writes one file; see `writing_outputs`."""
    check_local(path, option)
    path = Path(path)
    return writing_outputs(path.parent, [path.name], reads=reads, option=option)


def is_own(path: Path) -> bool:
    """Returns whether a file was written by a command and has not been changed since."""
    return _foreign(path, path.name, _read(path.parent)) is None


def written_below(folder: Path) -> set[Path]:
    """Returns the files that commands have noted in a folder."""
    note = _read(folder)
    parts = [path for name in note["begun"] if name.endswith("/") for path in (folder / name).rglob("*")]
    return {*(folder / name for name in (*note["files"], *note["begun"])), *parts}


def _read(folder: Path) -> dict[str, Any]:
    try:
        note = read_json(folder / NOTE)
        return {"files": dict(note["files"]), "begun": dict.fromkeys(note["begun"])}
    except (OSError, ValueError, KeyError, TypeError):  # no note, or a damaged one: nothing may be replaced
        return {"files": {}, "begun": {}}


def _foreign(path: Path, name: str, note: dict[str, Any]) -> str | None:
    """Returns why a file must be kept, None if a command wrote it and nobody changed it."""
    if any(begun in note["begun"] for begun in (name, *(f"{parent}/" for parent in PurePosixPath(name).parents))):
        return None
    if name not in note["files"]:
        return "was not written by segjax"
    return None if path.exists() and note["files"][name] == _stamp(path) else "was changed since segjax wrote it"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _identity(path: Path) -> tuple[int, int]:
    """Returns what is equal for all names of a file: links and hard links."""
    status = path.stat()
    return status.st_dev, status.st_ino
