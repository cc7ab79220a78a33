"""Flow providers: the sign of the displacement, and the data set's own flow turned round."""

import numpy as np
import pytest

from segjax.data import flow
from segjax.data.sources import Record
from segjax.errors import UserError


def records(speed=(3, 1), size=(48, 64)):
    """Frame 1 shows what frame 0 shows, moved by `speed` pixels (x, y)."""
    rng = np.random.default_rng(0)
    world = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    h, w = size
    moved = [
        world[16 - t * speed[1] : 16 - t * speed[1] + h, 24 - t * speed[0] : 24 - t * speed[0] + w] for t in (0, 1)
    ]
    back = np.full((h, w, 2), [-speed[0], -speed[1]], np.float32)
    valid = np.ones(size, bool)
    valid[:, : speed[0]] = valid[: speed[1]] = False
    return [
        Record(moved[0], None, "v_0", "v", 0, np.zeros((h, w, 2), np.float32), np.zeros(size, bool)),
        Record(moved[1], None, "v_1", "v", 1, back, valid),
    ]


@pytest.mark.parametrize("name", ["dis", "exact"])
def test_a_pixel_lies_where_flow_says(name):
    first, second = records()
    there, back = flow.create(name)([first, second], [second, first])
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(np.median(there[inner], (0, 1)) - [3, 1]).max() < 0.2
    assert np.abs(np.median(back[inner], (0, 1)) + [3, 1]).max() < 0.2


def test_inverse_is_exact_where_seen_and_filled_from_the_nearest_elsewhere():
    field = np.zeros((6, 8, 2), np.float32)
    field[:, 4:] = (-2, 0)  # the right half came from 2 pixels further left, over what the left half shows
    valid = np.ones((6, 8), bool)
    valid[:, 2:4] = False  # hidden before
    inverse = flow.invert(field, valid)
    assert (inverse[:, :2] == 0).all() and (inverse[:, 2:6] == (2, 0)).all()
    assert (inverse[:, 6:] == (2, 0)).all()
    assert (flow.invert(field, np.zeros((6, 8), bool)) == 0).all()


def test_errors():
    first, second = records()
    with pytest.raises(UserError, match="Did you mean 'dis'"):
        flow.create("diss")
    second.frame = 2
    with pytest.raises(UserError, match="no neighbours"):
        flow.exact([second], [first])
    second.flow = None
    with pytest.raises(UserError, match="stores no optical flow"):
        flow.exact([second], [first])
