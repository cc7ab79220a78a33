"""Snippets of labelled video: which frames belong to them, the same crop in all frames, batches of whole snippets."""

import numpy as np
import pytest

from segjax.data import (
    Bucket,
    JoinedSnippets,
    Reading,
    SnippetCrops,
    Snippets,
    Timeline,
    batch_spec,
    eval_snippets,
    train_batches,
)
from segjax.data.epoch_plans import UniformPlan
from segjax.data.video import FrameIndex
from segjax.errors import UserError
from tests.video_tools import Table, random_records

READING = Reading(num_threads=0)


class Video:
    """Two videos of 6 and 4 frames, every second of which is labelled."""

    def __init__(self, size=(20, 24), **options):
        self.index = Table((6, 4), size=size, every=2, first=1, **options)
        self.records = random_records(self.index)

    def __getitem__(self, number):
        return self.records[number]


def snippets(before=2, **options):
    return Snippets(FrameIndex(Video(**options)), before)


def test_clips_end_with_labelled_frames_that_have_enough_neighbours():
    found = snippets()
    assert found.names == ["v0_003", "v0_005", "v1_003"] and found.skipped == ["v0_001", "v1_001"]
    assert [record.frame for record in found.frames(0, 3)] == [1, 2, 3]
    assert [record.frame for record in found.frames(2, 2)] == [2, 3]
    without = snippets(without={(0, 2)})
    assert without.names == ["v0_005", "v1_003"] and without.skipped == ["v0_001", "v0_003", "v1_001"]
    any_frame = Snippets(FrameIndex(Video()), 4, labelled_only=False)
    assert any_frame.names == ["v0_004", "v0_005"] and len(any_frame.skipped) == 8
    with pytest.raises(UserError, match="no labelled frame has 7 frames before it, 1 frame numbers apart"):
        snippets(7)


def test_joined_snippets_keep_their_frames_rates_and_sizes():
    one, other = snippets(), Snippets(FrameIndex(Video(size=(30, 40)), step=2), 2, labelled_only=False)
    both = JoinedSnippets([one, other])
    assert len(both) == len(one) + len(other) == 5 and both.names == one.names + other.names
    assert both.skipped == one.skipped + other.skipped and both.before == 2
    assert [record.frame for record in both.frames(2, 3)] == [1, 2, 3]
    assert [record.frame for record in both.frames(3, 3)] == [0, 2, 4]
    assert both.sizes.tolist() == [[20, 24]] * 3 + [[30, 40]] * 2
    rng, bucket, crops = np.random.default_rng(0), Bucket((8, 10), 1, 3), SnippetCrops(both)
    samples = [crops.read(number, np.array([-1, -1]), bucket, rng) for number in range(5)]
    assert {sample["image"].shape for sample in samples} == {(3, 8, 10, 3)}


def batches(scales, frames, *, steps=4, **options):
    plan = UniformPlan(3, seed=3)
    timeline = Timeline(plan.length, [((8, 10), 1)] * 3, total_steps=steps, frames=[frames] * 3)
    return list(train_batches(SnippetCrops(snippets(), scales), plan, timeline, READING, **options))


def test_all_frames_have_the_crop_of_the_label():
    """At scale 1 the window is the crop: its pixels are found in the frames at the place of the label's."""
    video = snippets()
    for _, batch in batches((1.0,), (3,)):
        number = int(batch["record"][0])
        frames = video.frames(number, 3)
        label, window = batch["label"][0], batch["image"][0]
        assert window.shape == (3, 8, 10, 3)
        places = [
            (y, x) for y in range(13) for x in range(15) if (frames[-1].label[y : y + 8, x : x + 10] == label).all()
        ]
        assert len(places) == 1
        y, x = places[0]
        for frame, shown in zip(frames, window):
            np.testing.assert_array_equal(shown, frame.image[y : y + 8, x : x + 10])
        np.testing.assert_array_equal(batch["box"][0], [0, 0, 8, 10])


def test_frames_and_scales_of_a_batch():
    found = batches((0.5, 2.0), (2, 3), steps=6)
    assert [batch["image"].shape[1] for _, batch in found] == [2, 3, 2, 2, 3, 2]
    scales = {8 / float(batch["box"][0][2] - batch["box"][0][0]) for _, batch in found}
    assert scales == {0.5, 2.0}
    samples = SnippetCrops(snippets(), (0.5, 2.0))
    spec = batch_spec(samples, Bucket((8, 10), 1, 3))
    assert spec["image"] == ((1, 3, 16, 20, 3), np.uint8)
    for _, batch in found[1:2]:
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == spec


def test_a_resumed_run_draws_the_same():
    whole, rest = batches((0.5, 1.0), (2, 3)), batches((0.5, 1.0), (2, 3), start_step=2)
    for (step, one), (other, two) in zip(whole[2:], rest, strict=True):
        assert step == other and all(np.array_equal(one[name], two[name]) for name in one)


def test_frames_without_a_label_are_ignored_everywhere():
    samples = SnippetCrops(Snippets(FrameIndex(Video()), 4, labelled_only=False))
    read = samples.read(0, np.array([-1, -1]), Bucket((8, 8), 1, 5), np.random.default_rng(0))
    assert (read["label"] == 255).all() and read["image"].shape == (5, 8, 8, 3)


@pytest.mark.parametrize("processes", [1, 2])
def test_whole_clips_once(processes):
    found = [list(eval_snippets(snippets(), READING, batch_size=2, process_index=p, process_count=processes))
             for p in range(processes)]  # fmt: skip
    assert all(len(part) == 2 for part in found)
    video, seen = snippets(), []
    for batch in (batch for part in found for batch in part):
        for image, label, weight, record in zip(*(batch[name] for name in ("image", "label", "weight", "record"))):
            if record < 0:
                assert weight == 0 and (label == 255).all()
                continue
            seen.append(int(record))
            frames = video.frames(int(record), 3)
            np.testing.assert_array_equal(image, np.stack([frame.image for frame in frames]))
            np.testing.assert_array_equal(label, frames[-1].label)
    assert sorted(seen) == [0, 1, 2]
