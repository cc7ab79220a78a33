"""Flow providers: the sign of the displacement, and the dataset's own flow turned round."""

import pickle

import cv2
import numpy as np
import pytest

from segjax.data import flow, open_source
from segjax.data.sources import Record
from segjax.data.video import FrameIndex
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


def warp(image, motion):
    """image (h, w, 3) fetched at the places that motion (h, w, 2) leads to."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    places = x + motion[..., 0], y + motion[..., 1]
    return cv2.remap(image.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


STREET = dict(height=64, width=128, train=2, validation=1, test=1, frames=6)


@pytest.fixture(scope="module")
def street(street_dir):
    return open_source(
        "synthetic_street", "train", data_dir=street_dir, builder_options=STREET, labelled_only=False, fields=("flow",)
    )


@pytest.mark.parametrize("name", ["dis", "exact"])
@pytest.mark.parametrize("gap", [-1, 1, -2, 3])
def test_the_other_frame_moved_by_flow_looks_like_the_first(name, gap, street):
    index = FrameIndex(street)
    a, b = street[8], street[index.neighbour(8, gap)]
    (motion,) = flow.create(name, index=index)([a], [b])
    assert motion.shape == (64, 128, 2) and motion.dtype == np.float32
    error = np.abs(warp(b.image, motion) - a.image).mean(-1)
    still = np.abs(b.image.astype(float) - a.image).mean(-1)
    assert np.quantile(error, 0.75) < 0.65 * np.quantile(still, 0.75), "noise alone has a median of 4"


def test_presets_and_options():
    first, second = records()
    fields = [flow.create("dis", {"preset": preset})([second], [first]) for preset in flow.PRESETS]
    assert not np.array_equal(fields[0], fields[2])
    np.testing.assert_array_equal(fields[2], flow.dis([second], [first]))
    with pytest.raises(UserError, match="Did you mean 'medium'"):
        flow.create("dis", {"preset": "mediun"})([second], [first])
    with pytest.raises(UserError, match="no option 'preser'"):
        flow.create("dis", {"preser": "fast"})


def test_exact_flow_needs_the_frames_between(street):
    without = Holes(street, missing=2)
    index = FrameIndex(without, step=1)
    first, fourth = street[1], street[3]
    with pytest.raises(UserError, match="frame 2 of train_0000 is missing"):
        flow.create("exact", index=index)([fourth], [first])


class Holes:
    """A source without one of its frames."""

    def __init__(self, source, missing):
        self.source, self.index = source, source.index.take(np.delete(np.arange(len(source)), missing))

    def __getitem__(self, number):
        return self.source[number]


def test_remembered_flow_is_computed_once():
    first, second = records()
    calls = []

    def counted(a, b):
        calls.append(len(a))
        return flow.dis(a, b)

    once = flow.Remembered(counted, max_bytes=2 * 48 * 64 * 8)
    for _ in range(2):
        fields = once([first, second], [second, first])
    np.testing.assert_array_equal(fields, flow.dis([first, second], [second, first]))
    assert calls == [2]
    full = flow.Remembered(counted, max_bytes=0)
    full([first], [second]), full([first], [second])
    assert calls == [2, 1, 1]
    assert pickle.loads(pickle.dumps(flow.Remembered(flow.dis, 10))).max_bytes == 10


def test_statistics():
    rng = np.random.default_rng(0)
    fields = [rng.normal((3, -1), (2, 0.5), (4, 5, 2)) for _ in range(3)]
    statistics = flow.FlowStatistics()
    for field in fields:
        statistics.add(field)
    whole = np.stack(fields).reshape(-1, 2)
    np.testing.assert_allclose(statistics.mean, whole.mean(0))
    np.testing.assert_allclose(statistics.std, whole.std(0))
    still = flow.FlowStatistics()
    still.add(np.zeros((4, 4, 2)))
    assert still.std == (0.1, 0.1)
