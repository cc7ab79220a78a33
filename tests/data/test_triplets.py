"""Samples of video networks: crops and flow of three neighbours, a pure function of the step."""

import itertools

import numpy as np
import pytest

from segjax.data import Bucket, Reading, Timeline, batch_spec, train_batches
from segjax.data.epoch_plans import UniformPlan
from segjax.data.flow import dis
from segjax.data.triplets import TripletCrops, Triplets, TripletSampling, eval_triplets, measure_flow
from segjax.data.video import FrameIndex
from segjax.errors import UserError
from tests.data.batch_tools import Video, digest, pairs, random_triplets
from tests.video_tools import Table, pair_flow, random_records

READING = Reading(num_threads=0)


# of batches that were drawn before samples had a protocol: (frames, flow_on)
DRAWN = {
    (2, "frame"): "2b0870e2e02b4b23",
    (2, "crop"): "d741a83b886b619c",
    (3, "frame"): "03f49977cebea31a",
    (3, "crop"): "e7a1f1087445f607",
}
DRAWN_PARTS = ["638d58ab6bdc6564", "912542f409158b74"]  # of (3, "frame")


@pytest.fixture(scope="module")
def triplets():
    return random_triplets()


def batches(triplets, sampling, *, start=0, crop=(8, 10), steps=6, **options):
    plan = UniformPlan(len(triplets), seed=3)
    timeline = Timeline.constant(plan.length, crop=crop, batch=2, epochs=4, total_steps=steps)
    samples = TripletCrops(triplets, sampling)
    return list(train_batches(samples, plan, timeline, READING, start_step=start, **options))


def drawn(triplets, frames=3, flow_on="frame", num_workers=0, **options):
    sampling = TripletSampling(pairs, frames=frames, reverse=0.5, cut_histogram=0.9, flow_on=flow_on)
    plan = UniformPlan(len(triplets), seed=3)
    timeline = Timeline(plan.length, [((8, 10), 2), ((12, 8), 4), ((8, 10), 2)])
    return train_batches(TripletCrops(triplets, sampling), plan, timeline, Reading(num_workers=num_workers), **options)


@pytest.mark.parametrize("frames, flow_on", DRAWN)
def test_the_samples_drawn_are_those_of_always(triplets, frames, flow_on):
    assert digest(drawn(triplets, frames, flow_on)) == DRAWN[frames, flow_on]


def test_the_samples_drawn_are_those_of_always_in_workers_and_processes(triplets):
    assert digest(drawn(triplets, num_workers=2)) == DRAWN[3, "frame"]
    assert [digest(drawn(triplets, process_index=part, process_count=2)) for part in range(2)] == DRAWN_PARTS


def test_batches_are_as_their_spec_describes_them(triplets):
    samples = TripletCrops(triplets, TripletSampling(pairs, frames=2))
    spec = batch_spec(samples, Bucket((8, 10), 2))
    assert spec["images"] == ((2, 3, 8, 10, 3), np.uint8) and spec["flows"] == ((2, 1, 8, 10, 2), np.float32)
    assert list(spec) == ["images", "flows", "weight", "index", "epoch", "record"]
    for _, batch in batches(triplets, samples.sampling):
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == spec
    assert len(samples) == 5 and samples.names == triplets.names and samples.sizes is triplets.sizes


def test_triplets(triplets):
    assert len(triplets) == 5 and triplets.names == ["v0_001", "v0_002", "v0_003", "v1_001", "v1_002"]
    assert [record.frame for record in triplets[1]] == [1, 2, 3]
    assert triplets.limited(2).names == ["v0_001", "v0_003"] and triplets.limited(None) is triplets
    with pytest.raises(UserError, match="no frame has a neighbour on both sides"):
        Triplets(FrameIndex(Table((2, 2))))


@pytest.mark.parametrize("frames", [2, 3])
def test_crops_and_flows_belong_together(triplets, frames):
    found = batches(triplets, TripletSampling(pairs, frames=frames, reverse=0.5))
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
    sampling = TripletSampling(pairs)
    whole = batches(triplets, sampling)
    for step, batch in batches(triplets, sampling, start=4):
        for name, value in batch.items():
            np.testing.assert_array_equal(value, whole[step][1][name])
    halves = [batches(triplets, sampling, process_index=i, process_count=2) for i in range(2)]
    for (_, batch), *parts in zip(whole, *halves):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([part[name] for _, part in parts]))


def test_flow_on_crops_sees_crops_only(triplets):
    seen = []

    def flow(a, b):
        seen.append(a[0].image.shape)
        return np.zeros((1, *a[0].image.shape[:2], 2), np.float32)

    batches(triplets, TripletSampling(flow, flow_on="crop"), steps=1)
    assert set(seen) == {(8, 10, 3)}


def test_a_cut_of_scenes_weighs_nothing(triplets):
    assert all((batch["weight"] == 1).all() for _, batch in batches(triplets, TripletSampling(pairs)))
    assert all(
        (batch["weight"] == 0).all() for _, batch in batches(triplets, TripletSampling(pairs, cut_histogram=0.01))
    )


def test_what_cannot_be_is_refused(triplets):
    with pytest.raises(UserError, match="frame v0_001 is 24x20, smaller than the crop of 30x8"):
        batches(triplets, TripletSampling(pairs), crop=(8, 30))
    with pytest.raises(UserError, match="give frame or crop"):
        TripletSampling(pairs, flow_on="crops")
    with pytest.raises(UserError, match="probability"):
        TripletSampling(pairs, reverse=2)


def test_evaluation_shows_every_triple_once(triplets):
    sampling = TripletSampling(pairs, frames=2, reverse=0.0)
    found = list(eval_triplets(triplets, sampling, READING, batch_size=2))
    records = np.concatenate([batch["record"] for batch in found])
    weight = np.concatenate([batch["weight"] for batch in found])
    assert sorted(records[weight > 0]) == list(range(5)) and len(records) == 6 and weight.sum() == 5
    assert found[0]["images"].shape == (2, 3, 20, 24, 3) and found[0]["flows"].shape == (2, 2, 20, 24, 2)
    assert len(list(eval_triplets(triplets, sampling, READING, batch_size=2, limit=2))) == 1


def test_the_triples_evaluated_are_those_of_always(triplets):
    found = eval_triplets(triplets, TripletSampling(pairs, frames=2, reverse=0.0), batch_size=2)
    assert digest(enumerate(found)) == "c78822383c5d057e"


def test_evaluation_of_two_sizes():
    video = Video()
    video.index.sizes[5:] = (12, 14)
    video.records = random_records(video.index)
    found = list(eval_triplets(Triplets(FrameIndex(video)), TripletSampling(pairs, reverse=0.0), READING, batch_size=4))
    assert [batch["images"].shape[2:4] for batch in found] == [(20, 24), (12, 14)]
    assert [batch["weight"].tolist() for batch in found] == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_flow_is_measured_in_both_directions(triplets):
    both, backward = (measure_flow(triplets, dis, reverse=reverse) for reverse in (True, False))
    assert both.count == 2 * backward.count == 2 * 5 * 20 * 24
    constant = measure_flow(triplets, lambda a, b: np.full((1, 20, 24, 2), b[0].frame - a[0].frame, np.float32))
    assert constant.mean == (0, 0) and constant.std == (1, 1)
