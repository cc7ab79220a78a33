"""PNG files and videos: whole or absent, and errors are one sentence."""

from pathlib import Path

import numpy as np
import pytest

from segjax.data.image_files import read_mask
from segjax.errors import UserError
from segjax.media.clips import open_clips
from segjax.media.writers import PngWriter, VideoWriter, write_png


def test_a_png_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(part, data):
        with open(part, "wb") as file:
            file.write(data[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="a.png cannot be written .No space left on device.; free some space"):
        write_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    assert not list(tmp_path.iterdir())


def test_png_writer_raises_what_went_wrong(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), PngWriter() as writer:
        writer.write(tmp_path / "file" / "a.png", np.zeros((4, 4), np.uint8))


def test_several_writers_of_one_picture_leave_one_of_them(tmp_path):
    pictures = [np.full((64, 64), value, np.uint8) for value in range(16)]
    with PngWriter(threads=8) as pngs:
        for picture in pictures:
            pngs.write(tmp_path / "a.png", picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert any((read_mask(tmp_path / "a.png") == picture).all() for picture in pictures)


def test_a_video_has_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "drive.mp4"
    with VideoWriter(path, fps=10) as writer:
        for value in range(10):
            writer.write(np.full((48, 64, 3), 20 * value, np.uint8))
        (part,) = path.parent.iterdir()
        assert part.name.startswith(".drive.mp4.part-")  # hidden: not taken for a video
    assert [found.name for found in path.parent.iterdir()] == ["drive.mp4"]
    assert len(open_clips(path)[0]) == 10


def test_what_was_written_of_a_video_before_an_error_is_kept(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "drive.mp4", fps=10) as writer:
        for _ in range(10):
            writer.write(np.zeros((48, 64, 3), np.uint8))
        raise ZeroDivisionError
    assert len(open_clips(tmp_path / "drive.mp4")[0]) == 10


def test_a_video_that_is_not_whole_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(VideoWriter, "_complete", lambda self: False)
    with (
        pytest.raises(UserError, match="drive.mp4 cannot be written whole"),
        VideoWriter(tmp_path / "drive.mp4", fps=10) as writer,
    ):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*; give another folder"):
        VideoWriter(tmp_path / "file" / "a.mp4", fps=10).write(np.zeros((48, 64, 3), np.uint8))
