import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data import Timeline
from segjax.errors import UserError

A, B = ((32, 32), 4), ((64, 64), 3)


def by_hand(length, shapes):
    """Every step of a run, counted one by one."""
    places = []
    for epoch, (crop, batch) in enumerate(shapes):
        first = 0
        while first + batch <= length:
            places.append((epoch, first, (crop, batch, 1)))
            first += batch
    return places


@settings(max_examples=60)
@given(st.integers(5, 40), st.lists(st.sampled_from([A, B, ((64, 32), 5)]), min_size=1, max_size=9))
def test_every_step_is_where_counting_finds_it(length, shapes):
    timeline, expected = Timeline(length, shapes), by_hand(length, shapes)
    assert timeline.total_steps == len(expected)
    assert [timeline.at(step) for step in range(timeline.total_steps)] == expected
    for step, (epoch, first, (_, batch, _)) in enumerate(expected):
        assert timeline.progress(step) == pytest.approx(epoch + first / batch / (length // batch))
        assert timeline.epoch_start(epoch) <= step < timeline.epoch_start(epoch + 1)
    assert timeline.progress(timeline.total_steps) == len(shapes)


@settings(max_examples=60)
@given(
    st.integers(5, 40), st.lists(st.sampled_from([A, B, ((64, 32), 5)]), min_size=1, max_size=9), st.integers(0, 400)
)
def test_images_of_steps_and_steps_of_images(length, shapes, wanted):
    timeline, expected = Timeline(length, shapes), by_hand(length, shapes)
    batches = [batch for *_, (_, batch, _) in expected] + [shapes[-1][1]] * 200  # the last batch goes on
    seen = [sum(batches[:steps]) for steps in range(len(expected) + 200)]
    assert [timeline.examples(steps) for steps in range(len(seen))] == seen
    best = min(abs(n - wanted) for n in seen)
    assert abs(seen[timeline.steps_for(wanted)] - wanted) == best


@settings(max_examples=60)
@given(st.lists(st.sampled_from([A, B]), min_size=1, max_size=9), st.data())
def test_runs_cover_the_steps_once_and_change_bucket_each_time(shapes, data):
    timeline = Timeline(12, shapes)
    start = data.draw(st.integers(0, timeline.total_steps))
    end = data.draw(st.integers(start, timeline.total_steps))
    runs = timeline.runs(start, end)
    assert [s for run in runs for s in range(run.start, run.end)] == list(range(start, end))
    assert all(timeline.at(s).bucket == run.bucket for run in runs for s in range(run.start, run.end))
    assert all(one.bucket != two.bucket for one, two in zip(runs, runs[1:]))


def test_constant_and_a_total_inside_an_epoch():
    timeline = Timeline.constant(10, crop=(8, 8), batch=3, epochs=4, total_steps=7)
    assert timeline.total_steps == 7 and timeline.runs() == [(0, 7, ((8, 8), 3, 1))]
    assert timeline.at(6) == (2, 0, ((8, 8), 3, 1)) and timeline.progress(7) == pytest.approx(2 + 1 / 3)
    with pytest.raises(IndexError):
        timeline.at(7)


def test_a_batch_larger_than_the_epoch_is_refused():
    with pytest.raises(UserError, match="batch_size=8 .* 5 samples"):
        Timeline(5, [((8, 8), 8)])


def test_more_steps_than_the_epochs_have_are_refused():
    with pytest.raises(UserError, match="total_steps=9"):
        Timeline(4, [((8, 8), 2)] * 4, total_steps=9)


def test_frames_take_turns_in_an_epoch_or_change_with_it():
    blocks = Timeline(6, [((8, 8), 2)] * 4, frames=[(2,), (3,), (2,), (3,)])
    assert [blocks.at(step).bucket.frames for step in range(12)] == [2] * 3 + [3] * 3 + [2] * 3 + [3] * 3
    assert [(run.start, run.end, run.bucket.frames) for run in blocks.runs()][:2] == [(0, 3, 2), (3, 6, 3)]
    turns = Timeline(6, [((8, 8), 2)] * 2, frames=[(2, 3)] * 2)
    assert [turns.at(step).bucket.frames for step in range(6)] == [2, 3, 2, 2, 3, 2]
    assert [turns.at(step)[:2] for step in range(6)] == [(e, i) for e in (0, 1) for i in (0, 2, 4)]
    assert [(run.start, run.end) for run in turns.runs()] == [(0, 1), (1, 2), (2, 4), (4, 5), (5, 6)]
    assert sorted({bucket.frames for bucket in turns.buckets}) == [2, 3]
    assert turns.examples(6) == 12 and Timeline(6, [((8, 8), 2)]).at(0).bucket.frames == 1
