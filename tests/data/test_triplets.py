"""Samples of video networks: crops and flow of three neighbours, a pure function of the step."""

import itertools

import numpy as np
import pytest

from segjax.data import Timeline
from segjax.data.flow import dis
from segjax.data.plans import UniformPlan
from segjax.data.triplets import Clips, Triplets, eval_triplets, measure_flow, train_triplets
from segjax.data.video import FrameIndex
from segjax.errors import UserError
from tests.video_tools import Table, pair_flow, random_records


class Video:
    """Two random videos of 5 and 4 frames."""

    def __init__(self, size=(20, 24)):
        self.index = Table((5, 4), size=size)
        self.records = random_records(self.index)

    def __getitem__(self, number):
        return self.records[number]


def pairs(a, b):
    return np.stack([pair_flow(one, other) for one, other in zip(a, b)])


@pytest.fixture(scope="module")
def triplets():
    return Triplets(FrameIndex(Video()))


def batches(triplets, clips, *, start=0, crop=(8, 10), steps=6, **options):
    plan = UniformPlan(len(triplets), seed=3)
    timeline = Timeline.constant(plan.length, crop=crop, batch=2, epochs=4, total_steps=steps)
    return list(train_triplets(triplets, clips, plan, timeline, start_step=start, num_threads=0, **options))


def test_triplets(triplets):
    assert len(triplets) == 5 and triplets.names == ["v0_001", "v0_002", "v0_003", "v1_001", "v1_002"]
    assert [record.frame for record in triplets[1]] == [1, 2, 3]
    assert triplets.limited(2).names == ["v0_001", "v0_003"] and triplets.limited(None) is triplets
    with pytest.raises(UserError, match="no frame has a neighbour on both sides"):
        Triplets(FrameIndex(Table((2, 2))))


@pytest.mark.parametrize("frames", [2, 3])
def test_crops_and_flows_belong_together(triplets, frames):
    found = batches(triplets, Clips(pairs, frames=frames, reverse=0.5))
    assert [step for step, _ in found] == list(range(6))
    turned = 0
    for _, batch in found:
        assert batch["images"].shape == (2, 3, 8, 10, 3) and batch["flows"].shape == (2, frames - 1, 8, 10, 2)
        for row in range(2):
            records = triplets[int(batch["record"][row])]
            here = locate(records[0].image, batch["images"][row][0])
            if here is None:
                records, turned = records[::-1], turned + 1
                here = locate(records[0].image, batch["images"][row][0])
            y, x = here
            for t, record in enumerate(records):
                np.testing.assert_array_equal(batch["images"][row, t], record.image[y : y + 8, x : x + 10])
            for i, (a, b) in enumerate(itertools.pairwise(records[:frames])):
                np.testing.assert_array_equal(batch["flows"][row, i], pair_flow(b, a)[y : y + 8, x : x + 10])
    assert 0 < turned < 12


def locate(image, crop):
    h, w = crop.shape[:2]
    places = itertools.product(range(image.shape[0] - h + 1), range(image.shape[1] - w + 1))
    return next(((y, x) for y, x in places if np.array_equal(image[y : y + h, x : x + w], crop)), None)


def test_any_start_and_any_share_of_processes_gives_the_same(triplets):
    clips = Clips(pairs)
    whole = batches(triplets, clips)
    for step, batch in batches(triplets, clips, start=4):
        for name, value in batch.items():
            np.testing.assert_array_equal(value, whole[step][1][name])
    halves = [batches(triplets, clips, process_index=i, process_count=2) for i in range(2)]
    for (_, batch), *parts in zip(whole, *halves):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([part[name] for _, part in parts]))


def test_flow_on_crops_sees_crops_only(triplets):
    seen = []

    def flow(a, b):
        seen.append(a[0].image.shape)
        return np.zeros((1, *a[0].image.shape[:2], 2), np.float32)

    batches(triplets, Clips(flow, flow_on="crop"), steps=1)
    assert set(seen) == {(8, 10, 3)}


def test_a_cut_of_scenes_weighs_nothing(triplets):
    assert all((batch["weight"] == 1).all() for _, batch in batches(triplets, Clips(pairs)))
    assert all((batch["weight"] == 0).all() for _, batch in batches(triplets, Clips(pairs, cut_histogram=0.01)))


def test_what_cannot_be_is_refused(triplets):
    with pytest.raises(UserError, match="frame v0_001 is 24x20, smaller than the crop of 30x8"):
        batches(triplets, Clips(pairs), crop=(8, 30))
    with pytest.raises(UserError, match="give frame or crop"):
        Clips(pairs, flow_on="crops")
    with pytest.raises(UserError, match="probability"):
        Clips(pairs, reverse=2)


def test_evaluation_shows_every_triple_once(triplets):
    clips = Clips(pairs, frames=2, reverse=0.0)
    found = list(eval_triplets(triplets, clips, batch_size=2, num_threads=0))
    records = np.concatenate([batch["record"] for batch in found])
    weight = np.concatenate([batch["weight"] for batch in found])
    assert sorted(records[weight > 0]) == list(range(5)) and len(records) == 6 and weight.sum() == 5
    assert found[0]["images"].shape == (2, 3, 20, 24, 3) and found[0]["flows"].shape == (2, 2, 20, 24, 2)
    assert len(list(eval_triplets(triplets, clips, batch_size=2, limit=2, num_threads=0))) == 1


def test_evaluation_of_two_sizes():
    video = Video()
    video.index.sizes[5:] = (12, 14)
    video.records = random_records(video.index)
    found = list(eval_triplets(Triplets(FrameIndex(video)), Clips(pairs, reverse=0.0), batch_size=4, num_threads=0))
    assert [batch["images"].shape[2:4] for batch in found] == [(20, 24), (12, 14)]
    assert [batch["weight"].tolist() for batch in found] == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_flow_is_measured_in_both_directions(triplets):
    both, backward = (measure_flow(triplets, dis, reverse=reverse) for reverse in (True, False))
    assert both.count == 2 * backward.count == 2 * 5 * 20 * 24
    constant = measure_flow(triplets, lambda a, b: np.full((1, 20, 24, 2), b[0].frame - a[0].frame, np.float32))
    assert constant.mean == (0, 0) and constant.std == (1, 1)
