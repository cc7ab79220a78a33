"""Groups of frames: in order where the order matters, and what the network cannot take is left out or an error."""

import collections

import numpy as np
import pytest

from segjax.errors import UserError
from segjax.media.frame_batches import FilledBatches, in_order, predictions

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
    assert [(frame.name, str(error)) for group, error in refused for frame in group] == [(2, "too high")]
    with pytest.raises(UserError, match="too high"):
        list(predictions(FilledBatches(predict, 2), in_order(frames(4, 6), 2)))
