"""Feeds of frames: files, folders, devices that stop, the newest frame."""

import time

import cv2
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.media import feeds
from segjax.media.clips import open_clips
from segjax.media.feeds import DeviceFeed, FileFeed, Newest, open_feed


def write_video(path, count=6, size=(32, 48), fps=10):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size[::-1])
    for number in range(count):
        video.write(np.full((*size, 3), (20 * number + 40) % 256, np.uint8))
    video.release()
    return path


def test_a_video_and_a_folder_of_images(tmp_path):
    feed = open_feed(str(write_video(tmp_path / "a.mp4")))
    shots = list(feed.shots(pytest.fail))
    assert feed.fps == 10 and [shot.index for shot in shots] == list(range(6)) and shots[2].name == "000002"
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("f10.png", "f9.png"):
        cv2.imwrite(str(folder / name), np.zeros((8, 9, 3), np.uint8))
    assert [shot.name for shot in open_feed(str(folder)).shots(pytest.fail)] == ["f9", "f10"]


def test_problems_of_files_are_passed_on(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((8, 9, 3), np.uint8))
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:40])
    problems = []
    assert len(list(open_feed(str(folder)).shots(problems.append))) == 1 and "b.png" in problems[0]
    write_video(folder / "c.mp4")
    with pytest.raises(UserError, match="both images and videos"):
        open_feed(str(folder))
    with pytest.raises(UserError, match="does not exist"):
        open_feed(str(tmp_path / "nothing.mp4"))


def test_a_paced_file_comes_at_its_own_rate(tmp_path):
    write_video(tmp_path / "a.mp4", count=4, fps=20)
    start = time.monotonic()
    shots = list(FileFeed(open_clips(tmp_path / "a.mp4")[0], paced=True).shots(pytest.fail))
    assert time.monotonic() - start > 0.14
    assert np.allclose(np.diff([shot.time for shot in shots]), 0.05, atol=1e-3)


class Capture:
    """A camera that gives two frames each time it is opened, and opens `opens` times."""

    opens = 0

    def __init__(self, source):
        Capture.opens -= 1
        self._good, self._left = Capture.opens >= 0, 2

    def isOpened(self):
        return self._good

    def get(self, name):
        return 0.0

    def read(self):
        self._left -= 1
        return (True, np.zeros((8, 9, 3), np.uint8)) if self._left >= 0 else (False, None)

    def release(self):
        pass


def test_a_device_that_stops_is_opened_again(monkeypatch):
    monkeypatch.setattr(feeds.cv2, "VideoCapture", Capture)
    Capture.opens = 2
    feed, problems = DeviceFeed(0, waits=(0.0, 0.0)), []
    assert feed.fps == feeds.USUAL_FPS
    assert [shot.index for shot in feed.shots(problems.append)] == [0, 1, 2, 3]
    assert problems == ["camera 0 stopped after 4 frames and did not go on"]
    Capture.opens = 0
    with pytest.raises(UserError, match="rtsp://host/a does not open, after 3 attempts"):
        DeviceFeed("rtsp://host/a", waits=(0.0, 0.0))


def test_a_video_at_an_address_ends_and_is_not_played_again(monkeypatch):
    class Finite(Capture):
        def get(self, name):
            return 2.0 if name == cv2.CAP_PROP_FRAME_COUNT else 0.0

    monkeypatch.setattr(feeds.cv2, "VideoCapture", Finite)
    Capture.opens = 9
    assert len(list(DeviceFeed("http://host/a.mp4", waits=()).shots(pytest.fail))) == 2


def test_a_device_that_opens_without_frames_is_given_up(monkeypatch):
    class Empty(Capture):
        def read(self):
            return (False, None) if Capture.opens < 8 else super().read()

    monkeypatch.setattr(feeds.cv2, "VideoCapture", Empty)
    Capture.opens, problems = 9, []
    assert len(list(DeviceFeed(1, waits=()).shots(problems.append))) == 2 and Capture.opens == 7
    assert problems == ["camera 1 stopped after 2 frames and did not go on"]


class Slow:
    """A feed of 20 frames, one each 10 ms."""

    def shots(self, problem):
        for index in range(20):
            time.sleep(0.01)
            yield feeds.Shot(str(index), index, time.monotonic(), np.zeros((4, 4, 3), np.uint8))


def test_the_newest_frame_is_taken_and_others_are_counted():
    newest, seen = Newest(Slow(), pytest.fail), []
    for shot in newest:
        seen.append(shot.index)
        time.sleep(0.05)
    newest.close()
    assert seen[-1] == 19 and seen == sorted(set(seen)) and len(seen) + newest.dropped == 20 and newest.dropped > 5


def test_a_frame_that_waited_gives_way_to_a_newer_one():
    newest = Newest(Slow(), pytest.fail)
    first = next(iter(newest))
    time.sleep(0.4)
    last = newest.newer(first)
    assert last.index == 19 and newest.dropped == 19 and newest.newer(last) is last
    assert list(newest) == []
    newest.close()


def test_an_error_of_the_feed_reaches_the_reader():
    class Broken:
        def shots(self, problem):
            yield from ()
            raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        list(Newest(Broken(), pytest.fail))
