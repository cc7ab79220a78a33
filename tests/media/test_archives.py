"""Archives: the same bytes from the same files, whole or absent, and damage is named."""

import gzip
import random
import struct
import tarfile
import zipfile

import pytest

from segjax.errors import UserError
from segjax.media import archives
from segjax.media.archives import open_files, write_archive
from tests.data.test_image_fuzz import mutate

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


def refusal(path) -> str:
    """Returns the sentence with which opening or reading an archive ends."""
    with pytest.raises(UserError) as error, open_files(path) as files:
        for read in files.read.values():
            read()
    assert "\n" not in str(error.value)
    return str(error.value)


def tar(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(part.ljust(-(-len(part) // 512) * 512, b"\0") for part in parts) + bytes(1024), 1)


def sparse_head(size: int) -> bytes:
    """Returns the header of a member of GNU tar without data, whose gap has `size` bytes."""
    info = tarfile.TarInfo("s.png")
    info.type = b"S"
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    struct.pack_into("12s12s", head, 386, b"00000000000\0", b"00000000000\0")
    head[483:495] = b"\x80" + size.to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_an_archive_that_expands_more_than_images_is_refused_before_it_is_read(tmp_path, ending, monkeypatch):
    path = tmp_path / f"a{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", bytes(1 << 27))
        monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("is read"))
        places = "134 MB or more"
    else:
        info = tarfile.TarInfo("a.png")
        info.size = 1 << 27
        path.write_bytes(tar(info.tobuf(), bytes(1 << 27)))
        places = "68 MB or more"  # what is behind the limit is not unpacked
    assert f"{path} expands from " in refusal(path) and places in refusal(path)


def test_a_zip_that_states_less_than_it_holds(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1 << 20))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 100)))
    assert "a.png in" in refusal(path) and "cannot be read (Bad CRC-32" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_any_amount_at_once_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", b"one")
    assert "a.png in" in refusal(tmp_path / "a.zip") and "pack it again as an ordinary .zip" in refusal(
        tmp_path / "a.zip"
    )


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_a_member_beyond_the_largest_mask(tmp_path, ending, monkeypatch):
    path = write_archive(tmp_path / f"a{ending}", [("a.png", bytes(2000))])
    monkeypatch.setattr(archives, "MAX_MEMBER", 1999)
    assert "a.png in" in refusal(path) and "unpack it and give the folder" in refusal(path)


def test_a_member_with_gaps_is_refused(tmp_path):
    """It states any size, and takes no space in the archive."""
    (tmp_path / "a.tgz").write_bytes(tar(sparse_head(4 << 30)))
    assert "s.png in" in refusal(tmp_path / "a.tgz") and "is stored with gaps" in refusal(tmp_path / "a.tgz")


def test_a_tower_of_long_names_is_damage(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = b"L", 1
    (tmp_path / "a.tgz").write_bytes(tar(*[info.tobuf(tarfile.GNU_FORMAT), b"a"] * 5000))
    assert "a.tgz is damaged or no archive" in refusal(tmp_path / "a.tgz")


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_mutated_archives_are_read_or_named(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    whole, chance = write_archive(path, FILES).read_bytes(), random.Random(5)
    if ending == ".tgz":
        whole = gzip.decompress(whole)
    for number in range(120):
        data = mutate(whole, chance)
        path.write_bytes(gzip.compress(data, 1) if ending == ".tgz" and number % 2 else data)
        try:
            with open_files(path) as files:
                for read in files.read.values():
                    read()
        except UserError as error:
            assert f"a{ending}" in str(error) and "\n" not in str(error)
