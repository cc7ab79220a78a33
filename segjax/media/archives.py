"""Folders and archives of many small files: read by name; written whole or not at all, with reproducible bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from segjax.data.image_files import read_bytes
from segjax.errors import UserError, brief, quoted
from segjax.files import replacing, writing

SUFFIXES = (".zip", ".tgz", ".tar.gz")
_DATE = (1980, 1, 1, 0, 0, 0)
_RATIO = 32  # of unpacked to packed bytes, beyond _SMALL; images are packed already, small ones lie in empty blocks
_SMALL = 2**28  # bytes
# headers of long names are read within each other by tarfile, and their sizes may be anything
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RecursionError, MemoryError, ValueError,
    NotImplementedError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Files:
    """Files of a folder or an archive.

    place: path of the folder or archive.
    read: path inside -> function that returns the content.
    packed: whether it is an archive.
    """

    place: Path
    read: Mapping[str, Callable[[], bytes]]
    packed: bool


@contextlib.contextmanager
def open_files(place: str | os.PathLike) -> Iterator[Files]:
    """Opens a folder, .zip, .tgz or .tar.gz; hidden files are skipped. Only one thread at a time may read.

    Raises UserError if the place is missing, damaged or empty, or holds far more bytes than images need. Reading a
    damaged file inside raises it too.
    """
    place = Path(place).expanduser()
    with contextlib.ExitStack() as stack:
        if place.is_dir():
            paths = (Path(base, name) for base, _, names in os.walk(place) for name in names)
            found = {path.relative_to(place).as_posix(): (lambda path=path: read_bytes(path)) for path in paths}
        elif not place.is_file():
            raise UserError(f"{place} does not exist; give a folder or an archive ({', '.join(SUFFIXES)})")
        else:
            try:
                found = _members(stack, place)
            except _DAMAGE as error:
                why = brief(str(error) or type(error).__name__, 160)
                raise UserError(
                    f"{place} is damaged or no archive ({', '.join(SUFFIXES)}): {why}; write or copy it again"
                ) from None
        found = {name: read for name, read in found.items() if not _hidden(name)}
        if not found:
            raise UserError(f"{place} holds no file; give a folder or archive that does")
        yield Files(place, found, packed=not place.is_dir())


def _members(stack: contextlib.ExitStack, place: Path) -> dict[str, Callable[[], bytes]]:
    if zipfile.is_zipfile(place):
        archive = stack.enter_context(zipfile.ZipFile(place))
        members = [info for info in archive.infolist() if not info.is_dir()]
        _check_size(sum(info.file_size for info in members), place)
        return {info.filename: (lambda info=info: _read_member(archive, info)) for info in members}
    temporary = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the stack)
    plain = stack.enter_context(temporary)  # a compressed tar has no random access
    with gzip.open(place) as stream:
        while part := stream.read(1 << 20):
            plain.write(part)
            _check_size(plain.tell(), place)
    plain.seek(0)
    archive = stack.enter_context(tarfile.TarFile(fileobj=plain))
    members = [info for info in archive.getmembers() if info.isfile()]
    if sparse := [info.name for info in members if info.issparse()]:
        raise tarfile.TarError(f"{quoted(sparse[0])} is a sparse file, which can have any size")
    return {info.name: (lambda info=info: archive.extractfile(info).read()) for info in members}


def _check_size(unpacked: int, place: Path) -> None:
    """Raises UserError for an archive that becomes far larger than images do; unpacked: bytes so far."""
    most = max(_SMALL, _RATIO * place.stat().st_size)
    if unpacked > most:
        raise UserError(
            f"{place} holds {unpacked} bytes or more, which are too many for an archive of its size (at most {most}); "
            "unpack it and give the folder"
        )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"{info.filename} in {archive.filename} cannot be read ({error}); write or copy the archive again"
        ) from None


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__")) for part in name.split("/"))


def write_archive(path: str | os.PathLike, files: Iterable[tuple[str, bytes]]) -> Path:
    """Writes an archive, which appears when it is complete, and returns its path.

    path: ends with .zip, .tgz or .tar.gz.
    files: (path inside, content) pairs, written in this order; the bytes of the archive depend on nothing else.

    Raises UserError for another ending, or if the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path} is no name of an archive; it must end with {' or '.join(SUFFIXES)}")
    with writing(path, remedy="free some space or give another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, (_zip if path.suffix == ".zip" else _tar)(part) as write:
            for name, data in files:
                write(name, data)
    return path


@contextlib.contextmanager
def _zip(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already

        def write(name: str, data: bytes) -> None:
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)

        yield write


@contextlib.contextmanager
def _tar(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    with (
        open(path, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=1) as stream,
        tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):

        def write(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))

        yield write
