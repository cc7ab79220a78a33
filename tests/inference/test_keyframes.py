"""Which frames of a stream are keyframes: fixed intervals, cuts, doubtful labels, the longest interval."""

import numpy as np
import pytest

from segjax.data.scene_cuts import CUT_RESIDUAL
from segjax.errors import UserError
from segjax.inference.keyframes import UNEXPLAINED, Keyframes
from segjax.inference.streaming import StreamSegmenter
from tests.inference.test_streaming import SIZE, frames, network

STILL = np.full((*SIZE, 3), 90, np.uint8)
OTHER = np.full((*SIZE, 3), 200, np.uint8)


def chosen(keyframes, images, unexplained=()):
    """Which frames are keyframes; unexplained: of each frame that is none at first, 0 when used up."""
    found, left = [], iter(unexplained)
    for image in images:
        key = keyframes.due(image) or keyframes.doubtful(next(left, 0.0))
        keyframes.took(key)
        found.append(int(key))
    return found


def test_a_fixed_interval_reads_no_frame():
    assert chosen(Keyframes(3), [STILL, OTHER] * 4) == [1, 0, 0, 1, 0, 0, 1, 0]
    assert Keyframes(1).every and not Keyframes(2).every and not Keyframes("auto", 1).every


def test_auto_takes_the_longest_interval_at_most():
    assert chosen(Keyframes("auto", 4), [STILL] * 9) == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_auto_finds_cuts_and_what_adds_up():
    assert chosen(Keyframes("auto"), [STILL, STILL, OTHER, OTHER, STILL]) == [1, 0, 1, 0, 1]
    assert chosen(Keyframes("auto"), [STILL] * 3, [CUT_RESIDUAL + 1, 0]) == [1, 1, 0]
    third = UNEXPLAINED / 3 + 0.1
    assert chosen(Keyframes("auto"), [STILL] * 6, [third] * 5) == [1, 0, 0, 1, 0, 0]
    assert chosen(Keyframes("auto", 10, 1.0), [STILL] * 3, [0.6, 0.6]) == [1, 0, 1]


def test_restart():
    keyframes = Keyframes("auto")
    assert chosen(keyframes, [STILL] * 2) == [1, 0]
    keyframes.restart()
    assert chosen(keyframes, [OTHER] * 2) == [1, 0]


@pytest.mark.parametrize("name", ["gsvnet", "warp", "copy", "warp_dis"])
def test_a_still_stream_needs_few_keyframes_and_a_wild_one_all(name):
    """Equal frames differ from nothing; frames of random colours are a cut each."""
    video = network(name)
    wild = frames(3)
    wild = wild // 4 + 64 * np.arange(3, dtype=np.uint8)[:, None, None, None]
    stream = StreamSegmenter(video, "auto", max_interval=3)
    for frame in wild:
        np.testing.assert_array_equal(stream(frame), StreamSegmenter(video, 1)(frame))
    assert stream.counts.keyframes == 3
    stream.reset()
    for _ in range(4):
        stream(STILL)
    assert stream.counts.keyframes == 3 + 2


@pytest.mark.parametrize("longest", [0, 2.5, "4"])
def test_wrong_longest_intervals(longest):
    with pytest.raises(UserError, match="max_interval=.* must be a whole number of 1 or more"):
        Keyframes("auto", longest)
