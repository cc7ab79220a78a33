"""Archives: the same bytes from the same files, whole or absent, and damage is named."""

import gzip

import pytest

from segjax.errors import UserError
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
