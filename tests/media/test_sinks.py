"""Sinks: videos, folders, MJPEG; what a kill leaves; errors of the drawing thread."""

import io
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.media.sinks import InThread, open_sink
from tests.processes import environment


def frames_of(path):
    video, count = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        count += 1
    return count


def picture(number):
    return np.full((32, 48, 3), 20 * number, np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_videos_repeat_pictures(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with open_sink(str(path), fps=10) as write:
        for number in range(3):
            write(str(number), picture(number), 1 + number)
    assert frames_of(path) == 6 and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_of_another_size_are_kept(tmp_path, suffix):
    with open_sink(str(tmp_path / f"a{suffix}"), fps=10) as write:
        for number, size in enumerate(((32, 48), (64, 40), (32, 48))):
            write(str(number), np.full((*size, 3), 90, np.uint8), 1)
    assert frames_of(tmp_path / f"a{suffix}") == 3


def test_a_folder_has_a_png_file_for_each_frame(tmp_path):
    with open_sink(str(tmp_path / "out"), fps=10) as write:
        write("a", picture(1), 3)
        write("b", np.uint8([[1, 2]]), 1)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert cv2.imread(str(tmp_path / "out/b.png"), cv2.IMREAD_UNCHANGED).tolist() == [[1, 2]]


def test_mjpeg_for_another_program():
    stream = io.BytesIO()
    with open_sink("-", fps=10, stdout=stream) as write:
        write("a", picture(3), 5)
        write("b", picture(4), 1)
    data = stream.getvalue()
    assert data.count(b"\xff\xd8\xff") == 2
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (32, 48, 3) and abs(int(shown.mean()) - 60) <= 2


def test_other_endings_are_refused(tmp_path):
    sink = open_sink(str(tmp_path / "a.avi"), fps=10)
    with pytest.raises(UserError, match=r"must end with .mp4 or .mkv, or be a folder, or -"), sink:
        pass


WRITER = """
import sys, time
import numpy as np
from segjax.media.sinks import open_sink
rng = np.random.default_rng(0)
with open_sink(sys.argv[1], fps=25) as write:
    for number in range(10**6):
        write("", rng.integers(0, 256, (120, 160, 3), np.uint8), 1)
        print(number, flush=True)
        time.sleep(0.001)
"""


@pytest.mark.parametrize("suffix, readable", [(".mkv", True), (".mp4", False)])
def test_a_kill_leaves_a_growing_file_readable(tmp_path, suffix, readable):
    path = tmp_path / f"a{suffix}"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=environment(), text=True
    )
    written = 0
    while written < 200:
        written = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (frames_of(path) >= 150) == readable and path.exists() == readable


def test_calls_run_in_their_order_and_errors_come_back():
    queued, found = InThread(depth=2), []
    for number in range(5):
        queued(lambda number=number: (time.sleep(0.002), found.append(number)))
    queued.close()
    assert found == list(range(5))
    queued = InThread()

    def fail():
        raise UserError("full")

    queued(fail)
    with pytest.raises(UserError, match="full"):
        queued.close()
