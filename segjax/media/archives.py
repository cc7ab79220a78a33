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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from segjax.data.file_limits import check_expansion, check_regular
from segjax.data.image_files import MAX_PIXELS, read_bytes
from segjax.errors import UserError, brief
from segjax.files import replacing, writing

SUFFIXES = (".zip", ".tgz", ".tar.gz")
MAX_MEMBER = 2 * MAX_PIXELS  # bytes of a file in an archive: the largest mask of 16-bit ids, not compressed
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)


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

    Raises UserError if the place is missing, damaged, empty, no regular file, or an archive that expands more than
    images do (`file_limits.check_expansion`); reading a damaged file or one of more than MAX_MEMBER raises it too.
    """
    place = Path(place).expanduser()
    with contextlib.ExitStack() as stack:
        if place.is_dir():
            paths = (Path(base, name) for base, _, names in os.walk(place) for name in names)
            found = {path.relative_to(place).as_posix(): (lambda path=path: read_bytes(path)) for path in paths}
        elif not place.is_file():
            check_regular(place)
            raise UserError(f"{place} does not exist; give a folder or an archive ({', '.join(SUFFIXES)})")
        else:
            try:
                found = _members(stack, place)
            except (UserError, MemoryError):
                raise
            except Exception as error:  # readers of damaged archives raise all kinds of errors
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
        return _members_of_zip(stack, place)
    temporary = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the stack)
    plain = stack.enter_context(temporary)  # a compressed tar has no random access
    size, expanded = place.stat().st_size, 0
    with gzip.open(place) as stream:
        while block := stream.read(_BLOCK):
            expanded += len(block)
            check_expansion(place, expanded, size)
            plain.write(block)
    plain.seek(0)
    archive = stack.enter_context(tarfile.TarFile(fileobj=plain))
    members = [info for info in archive.getmembers() if info.isfile()]
    if sparse := [info.name for info in members if info.issparse()]:
        raise UserError(f"{sparse[0]} in {place} is stored with gaps; pack the archive again without --sparse")
    return {info.name: _reader(info.name, place, info.size, lambda x=info: _bytes_of(archive, x)) for info in members}


def _members_of_zip(stack: contextlib.ExitStack, place: Path) -> dict[str, Callable[[], bytes]]:
    archive = stack.enter_context(zipfile.ZipFile(place))
    members = [info for info in archive.infolist() if not info.is_dir()]
    check_expansion(place, sum(info.file_size for info in members), place.stat().st_size)
    # the other methods unpack all of a block at once, however much that is
    if other := [info.filename for info in members if info.compress_type not in _METHODS]:
        raise UserError(f"{other[0]} in {place} is compressed by an unusual method; pack it again as an ordinary .zip")
    return {x.filename: _reader(x.filename, place, x.file_size, lambda x=x: archive.read(x)) for x in members}


def _reader(name: str, place: Path, size: int, read: Callable[[], bytes]) -> Callable[[], bytes]:
    """Returns a function that reads a member of `size` bytes with `read`, and whose errors are UserErrors."""

    def checked() -> bytes:
        if size > MAX_MEMBER:
            raise UserError(
                f"{name} in {place} has {size / 1e6:.0f} MB, but at most {MAX_MEMBER / 1e6:.0f} MB of a file in an "
                "archive are read; unpack it and give the folder"
            )
        try:
            return read()
        except MemoryError:
            raise
        except Exception as error:  # readers of damaged archives raise all kinds of errors
            raise UserError(f"{name} in {place} cannot be read ({error}); write or copy the archive again") from None

    return checked


def _bytes_of(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    with archive.extractfile(info) as stream:
        return stream.read()


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
