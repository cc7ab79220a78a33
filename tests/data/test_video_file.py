"""Video files: known containers are opened, and no other file with them."""

import os
import struct

import cv2
import numpy as np
import pytest

from segjax.data.video import VideoSource, open_frames
from segjax.data.video_file import VIDEO_SUFFIXES, open_video
from segjax.errors import UserError
from segjax.media.clips import open_clips

CODES = {".avi": "MJPG", ".webm": "VP80", ".mpg": "MPG1", ".mpeg": "MPG1", ".flv": "FLV1"}
LISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\nfile secret.mp4\n",
    "marked concat": "\ufeff \nffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "subtitles": "# VobSub index file, v7\n",
}


def write(path, code="mp4v", size=(64, 48), count=4):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, size)
    assert writer.isOpened()
    for value in range(count):
        writer.write(np.full((*size[::-1], 3), 20 * value + 30, np.uint8))
    writer.release()
    return path


def frames(path) -> int:
    return sum(1 for _ in open_clips(path)[0].frames(on_error=pytest.fail))


@pytest.mark.parametrize("suffix", sorted({*VIDEO_SUFFIXES, ".flv"} - {".mxf", ".webm"}))
def test_usual_containers_are_opened(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", CODES.get(suffix, "mp4v"))
    path = path.rename(tmp_path / "b.mp4")  # the content decides, as for images
    assert frames(path) == 4 and len(VideoSource([path])) == 4


@pytest.mark.parametrize("name", sorted(LISTS))
def test_lists_of_other_files_are_refused(tmp_path, name):
    write(tmp_path / "secret.mp4")
    path = tmp_path / "a.mp4"
    path.write_text(LISTS[name], encoding="utf-8")
    for read in (open_clips, open_frames, open_video):
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value) == (
            f"{path} is a list that may name other files, not a video; give the videos themselves"
        )


@pytest.mark.parametrize("name", ["concat:secret.mp4|secret.mp4", "subfile,,start,0,end,0,,:secret.mp4", "file:x.mp4"])
def test_a_name_is_no_address(tmp_path, monkeypatch, name):
    """A file that is called so holds something else than the file that the name would mean to FFmpeg."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "secret.mp4", count=9)
    write(tmp_path / "x.mp4", count=9)
    os.replace(write(tmp_path / "own.mp4"), name)
    assert frames(name) == 4


def test_pictures_in_a_row_are_no_video(tmp_path):
    """OpenCV would read a_1.mp4, a_2.mp4, ... if they hold pictures."""
    for number in range(3):
        (tmp_path / f"a_{number}.mp4").write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    with pytest.raises(UserError, match="a_0.mp4 cannot be opened as a video"):
        open_clips(tmp_path / "a_0.mp4")


@pytest.mark.parametrize("place", ["alone", "in a folder"])
def test_a_pipe_and_a_device(tmp_path, place):
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to("/dev/zero")
    for name, word in (("a.mp4", "a pipe"), ("b.mp4", "a device")):
        if place == "alone":
            for read in (open_clips, open_frames, open_video):
                with pytest.raises(UserError, match=f"{name} is {word}, not a file"):
                    read(tmp_path / name)
            continue
        problems: list[UserError] = []
        for clip in open_clips(tmp_path):
            assert not list(clip.frames(on_error=problems.append))
        assert any(f"{name} is {word}, not a file" in str(problem) for problem in problems)


def test_frames_beyond_the_limit_of_pixels(tmp_path):
    data = bytearray(write(tmp_path / "a.avi", "MJPG").read_bytes())
    struct.pack_into("<ii", data, data.index(b"strf") + 12, 16000, 15000)
    place = 0
    while (place := data.find(b"\xff\xc0\0\x11\x08", place) + 5) > 4:  # the heads of the frames, which are JPEGs
        struct.pack_into(">HH", data, place, 15000, 16000)
    (tmp_path / "a.avi").write_bytes(data)
    for read in (open_clips, open_frames):
        with pytest.raises(UserError, match="a.avi has 240 megapixels, but at most 179 are read; .* or reduce it"):
            read(tmp_path / "a.avi")


def test_a_missing_video(tmp_path):
    with pytest.raises(UserError, match="no.mp4 does not exist; check the path"):
        VideoSource([tmp_path / "no.mp4"])
