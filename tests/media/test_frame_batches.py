"""Groups of frames: in order where the order matters, and what the network cannot take is left out or an error."""

import collections
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.media.frame_batches import FilledBatches, ahead, in_order, predictions, same_size

Frame = collections.namedtuple("Frame", "name image")


def frames(*heights):
    return [Frame(i, np.full((height, 8, 3), i, np.uint8)) for i, height in enumerate(heights)]


def test_groups_in_order():
    groups = list(in_order(frames(4, 4, 4, 6, 4, 4), 2))
    assert [[frame.name for frame in group] for group in groups] == [[0, 1], [2], [3], [4, 5]]
    assert list(in_order([], 2)) == []


def predict(images):
    if images.shape[1] == 6:
        raise UserError("too high")
    return images[..., 0]


def test_what_a_network_cannot_take_is_told_or_raised():
    refused = []
    groups = in_order(frames(4, 4, 6, 4), 2)
    seen = [
        (frame.name, int(ids[0, 0]))
        for group, labels in predictions(FilledBatches(predict, 2), groups, on_error=lambda *what: refused.append(what))
        for frame, ids in zip(group, labels, strict=True)
    ]
    assert seen == [(0, 0), (1, 1), (3, 3)]
    assert [(frame.name, str(error)) for group, error in refused for frame in group] == [
        (2, "too high; the image is 8x6")
    ]
    with pytest.raises(UserError, match="too high"):
        list(predictions(FilledBatches(predict, 2), in_order(frames(4, 6), 2)))


class Pair(NamedTuple):
    first: object
    second: object = None


@pytest.mark.parametrize("second", [lambda images: images.mean((1, 2)), lambda images: None])
def test_results_are_trees_without_the_rows_of_repeated_frames(second):
    shapes = []

    def two(images):
        shapes.append(images.shape)
        return Pair(jnp.asarray(images[..., 0]), second(images))

    found = list(predictions(FilledBatches(two, 3), in_order(frames(4, 4, 4, 4), 3)))
    assert shapes == [(3, 4, 8, 3)] * 2 and [len(group) for group, _ in found] == [3, 1]
    for group, pair in found:
        assert isinstance(pair, Pair) and isinstance(pair.first, np.ndarray)
        names = [frame.name for frame in group]
        assert pair.first[:, 0, 0].tolist() == names
        assert pair.second is None or pair.second[:, 0].tolist() == names


def test_the_next_group_is_started_before_a_result_is_waited_for():
    events = []

    class Result:  # what jax.device_get waits for
        def __init__(self, name):
            self.name = name

        def __array__(self, dtype=None, copy=None):
            events.append(f"wait {self.name}")
            return np.zeros(1)

    def run(images):
        events.append(f"start {images[0, 0, 0, 0]}")
        return Result(images[0, 0, 0, 0])

    for group, _ in predictions(FilledBatches(run, 1), in_order(frames(4, 4, 4), 1)):
        events.append(f"write {group[0].name}")
    assert events == [
        *("start 0", "start 1", "wait 0", "write 0"),
        *("start 2", "wait 1", "write 1", "wait 2", "write 2"),
    ]


def test_same_size_holds_few_frames_back():
    many = [Frame(i, np.zeros((i + 1, 4, 3), np.uint8)) for i in range(50)]
    taken = []

    def source():
        for frame in many:
            taken.append(frame)
            yield frame

    groups = same_size(source(), 2, limit=3)
    assert next(groups) == [many[0]] and len(taken) == 6
    assert sorted(frame.name for group in groups for frame in group) == list(range(1, 50))


def test_ahead_passes_errors_on():
    def source():
        yield 1
        raise ValueError("torn file")

    items = ahead(source(), depth=2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="torn"):
        next(items)
