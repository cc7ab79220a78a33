"""Clips: what is found under a path, and what videos promise."""

import numpy as np
import pytest

from segjax.errors import UserError
from segjax.media import clips as clips_module
from segjax.media.clips import open_clips
from segjax.media.writers import VideoWriter


def test_real_videos(tmp_path, videos):
    for clip in open_clips(videos):
        first = [frame for frame, _ in zip(clip.frames(on_error=pytest.fail), range(3))]
        assert [frame.index for frame in first] == [0, 1, 2]
        assert first[0].image.shape in {(540, 960, 3), (720, 1280, 3)}
        assert clip.fps == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: p / "nothing.png", "does not exist"),
        (lambda p: p, "holds no image"),
        (lambda p: (p / "x.txt").write_text("x") and p / "x.txt", "neither an image"),
        (lambda p: (p / "x.mp4").write_bytes(b"no video at all") and p / "x.mp4", "cannot be opened as a video"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(UserError, match=words):
        open_clips(path)


def test_header_without_a_rate_gets_a_default(tmp_path, monkeypatch):
    class NoHeader:
        def __init__(self, capture):
            self.capture = capture

        def get(self, what):
            return 0.0

        def __getattr__(self, name):
            return getattr(self.capture, name)

    original = clips_module.open_video
    monkeypatch.setattr(clips_module, "open_video", lambda path: NoHeader(original(path)))
    with VideoWriter(tmp_path / "drive.mp4", fps=10) as writer:
        for value in range(30):
            writer.write(np.full((48, 64, 3), 8 * value, np.uint8))
    (clip,) = open_clips(tmp_path / "drive.mp4")
    assert clip.fps == 25 and len(clip) == 0
    assert len(list(clip.frames(on_error=pytest.fail))) == 30
