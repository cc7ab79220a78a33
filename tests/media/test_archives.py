"""Archives: the same bytes from the same files, whole or absent, and damage is named."""

import gzip
import io
import tarfile
import zipfile

import pytest

from segjax.errors import UserError
from segjax.media import archives
from segjax.media.archives import open_files, write_archive

FILES = [("b/2.png", b"two" * 500), ("1.png", b"one")]


@pytest.mark.parametrize("ending", [".zip", ".tgz", ".tar.gz"])
def test_bytes_depend_on_the_files_alone(tmp_path, ending):
    one, other = (write_archive(tmp_path / folder / f"a{ending}", iter(FILES)) for folder in ("x", "y"))
    assert one.read_bytes() == other.read_bytes()
    with open_files(one) as files:
        assert files.packed and {name: read() for name, read in files.read.items()} == dict(FILES)


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_an_archive_that_is_not_completed_leaves_the_old_one(tmp_path, ending):
    path = write_archive(tmp_path / f"a{ending}", FILES)
    whole = path.read_bytes()

    def broken():
        yield FILES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(path, broken())
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/a.zip cannot be written .*; free some space or give another place"):
        write_archive(tmp_path / "file" / "a.zip", FILES)


def test_damaged_and_foreign_archives(tmp_path):
    whole = write_archive(tmp_path / "a.zip", FILES).read_bytes()
    for name, data in (
        ("half.zip", whole[: len(whole) // 2]),
        ("half.tgz", gzip.compress(whole)[:-100]),
        ("no.tgz", b"no archive"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} is damaged or no archive"), open_files(tmp_path / name):
            pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no file"), open_files(tmp_path / "empty"):
        pass
    with pytest.raises(UserError, match="nowhere does not exist"), open_files(tmp_path / "nowhere"):
        pass
    with pytest.raises(UserError, match="must end with .zip or .tgz"):
        write_archive(tmp_path / "a.rar", [])


def member(kind, size=0, sparse=0):
    """The header of a tar member; sparse: bytes that it stands for."""
    info = tarfile.TarInfo("a.png")
    info.type, info.size = kind, size
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if sparse:
        data[386:410], data[483:495] = b"%011o\0%011o\0" % (0, 0), b"%011o\0" % sparse
        data[148:156] = b"%06o\0 " % (sum(data) - sum(data[148:156]) + 8 * 32)
    return bytes(data)


@pytest.mark.parametrize(
    "data, message",
    [
        (member(b"S", sparse=2**32), "'a.png' is a sparse file, which can have any size"),
        (member(b"L") * 5000, "recursion"),
        (member(b"x", size=2**33), "x.tgz is damaged"),
        (member(b"0", size=2**33) + bytes(1024), "x.tgz is damaged"),
        (member(b"2"), "holds no file"),
    ],
)
def test_members_that_stand_for_more_than_they_are(tmp_path, data, message):
    (tmp_path / "x.tgz").write_bytes(gzip.compress(data + bytes(1024)))
    with pytest.raises(UserError, match=message) as error, open_files(tmp_path / "x.tgz"):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_a_small_archive_of_much_is_refused(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "_SMALL", 2**20)
    data = bytes(2**23)
    if ending == ".zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", data)
    else:
        info = tarfile.TarInfo("a.png")
        info.size = len(data)
        with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
            archive.addfile(info, io.BytesIO(data))
    with (
        pytest.raises(UserError, match=rf"x{ending} holds \d+ bytes or more, .*; unpack it and give the folder"),
        open_files(tmp_path / f"x{ending}"),
    ):
        pass


def test_a_damaged_stream_is_named(tmp_path):
    data = write_archive(tmp_path / "a.tgz", FILES).read_bytes()
    for place in range(12, 40):
        (tmp_path / "x.tgz").write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with pytest.raises(UserError, match="x.tgz is damaged"), open_files(tmp_path / "x.tgz"):
            pass
