"""Listings of folders: every file is used, or counted as ignored with the reason."""

import os
from pathlib import Path

import pytest

from segjax.data.folders import find_images, list_images
from segjax.data.listing import scan, shown, some
from segjax.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


def test_every_file_has_one_place(tmp_path):
    used = ["a.png", "d/b.JPG", "a.b.webp"]
    types = ["c.xyz", "d/e.psd", "noending"]
    hidden = [".a.png", ".h/x.png", ".h/.i/y.jpg", "d/.png"]
    by_products = ["Thumbs.db", "d/.DS_Store", "desktop.ini", "a.json", "b.TXT", "README.md", "._a.png", ".git/config"]
    touch(tmp_path, *used, *types, *hidden, *by_products)
    found, ignored = scan(tmp_path)
    assert sorted(names(tmp_path, found)) == sorted(used)
    assert names(tmp_path, ignored.types) == sorted(types)
    assert sorted(names(tmp_path, ignored.hidden)) == sorted(hidden)
    assert sorted(names(tmp_path, ignored.by_products)) == sorted(by_products)
    assert ignored.sentences(root=tmp_path) == [
        "3 files are ignored: c.xyz, d/e.psd, noending (no images)",
        "4 files are ignored: .a.png, .h/.i/y.jpg, .h/x.png and 1 more (hidden)",
    ]


def test_links_are_followed_once_and_an_output_is_not_visited(tmp_path):
    touch(tmp_path, "a/1.png", "out/2.png")
    os.symlink(tmp_path / "a", tmp_path / "b")
    os.symlink(tmp_path, tmp_path / "a" / "circle")
    os.symlink(tmp_path / "a", tmp_path / ".hidden")
    found, ignored = scan(tmp_path, exclude=(tmp_path / "out").resolve())
    assert [path.name for path in found] == ["1.png"] and ignored.hidden == ()


def test_names_that_were_not_asked_for_are_named(tmp_path):
    touch(tmp_path, "a_x.png", "b.png", "c.gifx")
    listing = find_images(tmp_path, suffix="_x")
    assert [*listing.files] == ["a"]
    assert names(tmp_path, listing.ignored.names) == ["b.png"]
    assert names(tmp_path, listing.ignored.types) == ["c.gifx"]
    with pytest.raises(UserError, match=r"begins with 'q'.* 2 files are ignored: a_x.png, b.png \(of other names\)"):
        list_images(tmp_path, prefix="q")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "closed/b.png")
    real = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match=r"closed cannot be read \(Permission denied\)"):
        list_images(tmp_path)


def test_names_of_broken_bytes_are_refused_in_a_sentence_that_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        touch(tmp_path, name)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    with pytest.raises(UserError, match="1 name is not valid UTF-8") as error:
        list_images(tmp_path)
    assert r"caf\udce9.png" in str(error.value) and str(error.value).encode()


def test_shown_is_one_line():
    assert shown("a\nb\t\udcff é") == r"a\nb\t\udcff é"
    assert some([]) == "" and some("abcde") == "a, b, c and 2 more"
