"""What is no file, or too large a one, is refused before it is read, wherever images and texts enter."""

import os
import socket

import pytest

from segjax.data import FolderSource
from segjax.data.file_limits import check_expansion, check_readable, check_regular, expansion_limit
from segjax.data.image_files import MAX_PIXELS, image_size, read_bytes, read_image, read_mask
from segjax.data.label_map import LabelMap
from segjax.data.text_files import read_lines
from segjax.errors import UserError
from segjax.media.archives import open_files
from segjax.media.clips import open_clips

READERS = {
    "bytes": read_bytes,
    "image": read_image,
    "mask": read_mask,
    "size": image_size,
    "lines": read_lines,
    "label map": LabelMap.load,
    "archive": lambda path: open_files(path).__enter__(),
    "clip": open_clips,
}


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def server(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))  # a socket has a short name


@pytest.mark.parametrize("make", [pipe, device, server])
def test_what_is_no_file_is_named_at_once(tmp_path, make):
    path = tmp_path / "a.png"
    make(path)
    word = {pipe: "a pipe", device: "a device", server: "a socket"}[make]
    for read in READERS.values():
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value) == f"{path} is {word}, not a file; copy its content into a file"


def test_a_pipe_among_images_is_skipped_and_named(tmp_path):
    """As any image that cannot be read."""
    pipe(tmp_path / "a.png")
    (clip,) = open_clips(tmp_path)
    problems = []
    assert not list(clip.frames(on_error=problems.append)) and "a.png is a pipe" in str(problems[0])
    with pytest.raises(UserError, match="a.png is a pipe"):
        FolderSource(tmp_path)[0]


def test_a_file_with_more_bytes_than_any_picture(tmp_path):
    path = tmp_path / "a.png"
    with open(path, "wb") as file:
        file.truncate(8 * MAX_PIXELS)  # a hole, which takes no space
    check_readable(path)
    os.truncate(path, 8 * MAX_PIXELS + 1)
    for name in ("bytes", "image", "mask", "size", "lines"):
        with pytest.raises(UserError, match="a.png has 1.4 GB, but at most 1.4 GB of a file are read; divide or"):
            READERS[name](path)
    assert check_regular(path) == 8 * MAX_PIXELS + 1  # a video or an archive is not read whole


def test_missing_files_and_folders_keep_their_own_sentences(tmp_path):
    assert check_regular(tmp_path) == check_regular(tmp_path / "no") == 0
    with pytest.raises(UserError, match="no does not exist"):
        read_bytes(tmp_path / "no")


def test_archives_of_images_hardly_expand():
    assert expansion_limit(10) == 64 * 1024**2 and expansion_limit(10**9) == 10**11
    check_expansion("a.zip", 10**9, 10**7)
    with pytest.raises(UserError) as error:
        check_expansion("a.zip", 5 * 10**9, 2_400_000)
    assert str(error.value) == (
        "a.zip expands from 2.4 MB to 5000 MB or more, but images are compressed already, so that at most 240 MB of it "
        "are read; unpack it and give the folder"
    )
