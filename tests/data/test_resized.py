"""A source at another size: sizes, pixels and places of all that it returns, against numpy."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segjax.data import CachedSource, ImageCrops, Source, Timeline, eval_batches, train_batches
from segjax.data.centroid_search import find_centroids
from segjax.data.epoch_plans import ClassPlan
from segjax.data.image_files import decode_image
from segjax.data.resized import Resize, Resized, read_resize, resize_flow, resize_image, resize_nearest
from segjax.data.stream import Reading
from segjax.data.tfds_index import Index
from segjax.data.video import frame_table
from segjax.errors import UserError
from tests.data.fake_source import FakeSource, SoftSource

sides = st.integers(1, 60)
resizes = st.one_of(
    st.floats(0.02, 2.5).map(lambda factor: Resize(factor=factor)),
    st.integers(1, 120).map(lambda width: Resize(width=width)),
)


def area_mean(image, size):
    """The mean of the area that each new pixel covers, by one matrix for each axis."""
    for axis, new in enumerate(size):
        old = image.shape[axis]
        edges = np.arange(new + 1) * old / new
        pixels = np.arange(old)
        shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        image = np.moveaxis(np.tensordot(np.maximum(shared, 0) * new / old, image, (1, axis)), 0, axis)
    return image


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=3), resizes)
def test_all_that_is_read_has_the_size_that_is_promised(sizes, resize):
    source = SoftSource(len(sizes), sizes=sizes)
    resized = Resized(source, resize)
    for number, ((h, w), size) in enumerate(zip(sizes, resized.sizes.tolist())):
        ratio = resize.width / w if resize.width else resize.factor
        assert all(new == max(int(np.floor(old * ratio + 0.5)), 1) or abs(old * ratio % 1 - 0.5) < 1e-9
                   for new, old in zip(size, (h, w)))  # fmt: skip
        record = resized[number]
        assert record.image.shape == (*size, 3) and record.image.dtype == np.uint8
        for array in (record.label, record.soft_ids, record.soft_shares, resized.label(number)):
            assert list(array.shape[:2]) == size and array.dtype == np.uint8
        np.testing.assert_array_equal(resized.label(number), record.label)
        # the soft labels are still those of the label's pixels
        np.testing.assert_array_equal(record.soft_ids[..., 0], record.label)
        assert (resized.sizes[number] == record.image.shape[:2]).all()


def test_images_are_means_of_areas_and_labels_the_pixels_at_their_centres():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 44, 3), np.uint8)
    for size in ((15, 22), (10, 11), (23, 34), (7, 13)):
        np.testing.assert_allclose(resize_image(image, size), area_mean(image, size), atol=0.51)
        label = rng.integers(0, 20, (30, 44)).astype(np.uint8)
        rows, columns = (
            [math.floor(Fraction(2 * i + 1, 2 * new) * old) for i in range(new)] for new, old in zip(size, (30, 44))
        )
        np.testing.assert_array_equal(resize_nearest(label, size), label[np.ix_(rows, columns)])
        if size != (23, 34):  # there Pillow rounds a centre between two pixels the other way
            theirs = np.asarray(Image.fromarray(label).resize(size[::-1], Image.NEAREST))
            np.testing.assert_array_equal(resize_nearest(label, size), theirs)
    # a grid of lines that are one pixel wide: nothing is left of it, instead of the lines that every 4th pixel hits
    lines = np.zeros((32, 32, 3), np.uint8)
    lines[:, ::2] = 200
    assert (resize_image(lines, (8, 8)) == 100).all()
    assert resize_image(image, (30, 44)) is image and resize_image(image, (60, 88)).shape == (60, 88, 3)


def test_flow_leads_to_the_same_place_of_the_smaller_image():
    """A camera that turns and comes nearer: (x, y) was at A (x, y) + b, at any size."""
    matrix, shift = np.array([[0.9, 0.1], [-0.05, 0.8]]), np.array([3.0, -2.0])

    def flow(h, w, scale=(1.0, 1.0)):
        y, x = np.mgrid[:h, :w] + 0.5
        place = np.stack([x / scale[0], y / scale[1]], -1)
        return ((place @ matrix.T + shift - place) * scale).astype(np.float32)

    small = resize_flow(flow(40, 60), (20, 45))
    assert small.dtype == np.float32
    # of each new pixel's centre the old pixel is read: at most half a pixel beside it
    limit = 0.5 * np.abs(matrix - np.eye(2)).sum(1) * (0.75, 0.5)
    assert (np.abs(small - flow(20, 45, (0.75, 0.5))) <= limit + 1e-4).all()


class Whole(FakeSource):
    """With flow, instances, and what datasets on disk have."""

    @property
    def index(self):
        few = np.arange(len(self))
        return Index(np.array(self.names), np.array(["v"] * len(few)), few, self.sizes, few < 2)

    def __getitem__(self, index):
        record = super().__getitem__(index)
        h, w = record.label.shape
        record.instances = record.label.astype(np.uint16) * 1000 + index
        record.flow, record.flow_valid = np.full((h, w, 2), (4.0, -6.0), np.float32), record.label < 2
        return record

    def encoded_image(self, index):
        return b"as stored"


def test_the_rest_of_a_record_follows_and_the_rest_of_a_source_stays():
    source = Whole(3, sizes=((24, 32), (24, 16)))
    resized = pickle.loads(pickle.dumps(Resized(source, Resize(width=16))))
    record = resized[0]
    np.testing.assert_array_equal(record.instances, record.label.astype(np.uint16) * 1000)
    np.testing.assert_array_equal(record.flow_valid, record.label < 2)
    assert record.flow.shape == (12, 16, 2) and (record.flow == (2.0, -3.0)).all()
    assert (record.name, record.sequence, record.frame) == ("fake-0", "fake", 0)
    assert resized.index.sizes.tolist() == resized.sizes.tolist() == [[12, 16], [24, 16], [12, 16]]
    assert frame_table(CachedSource(resized, 0)).sizes.tolist() == resized.sizes.tolist()  # what video stages read
    assert resized.index.labelled.tolist() == [True, True, False] and resized.names == source.names
    members = {name for name in (*vars(Source), *Source.__annotations__) if not name.startswith("_")}
    assert {"label", "top_k", "palette"} <= members and all(hasattr(resized, name) for name in members)
    assert len(resized) == 3 and resized.num_classes == 4
    np.testing.assert_array_equal(decode_image(resized.encoded_image(0), ""), record.image)
    assert resized.encoded_image(1) == b"as stored"
    assert not hasattr(Resized(FakeSource(2), Resize(0.5)), "index")
    assert Resized(FakeSource(2, unlabelled=1), Resize(0.5)).label(1) is None
    cached = CachedSource(resized, 10**6)
    assert cached[0].image.shape == (12, 16, 3) and cached.sizes.tolist() == resized.sizes.tolist()


def test_training_and_evaluation_see_one_size():
    """Places, crops and labels of a training, and the batches of an evaluation."""
    source = Resized(FakeSource(6, sizes=((48, 64), (40, 64))), Resize(0.5))
    places = find_centroids(source, "tiles", tile=0)
    assert (places.places < source.sizes[places.records]).all()
    assert all(source.label(r)[y, x] == c for r, c, (y, x) in zip(places.records, places.classes, places.places))
    samples = ImageCrops(source, (0.8, 1.5))
    timeline = Timeline.constant(6, crop=(16, 16), batch=6, epochs=1)
    ((_, batch),) = train_batches(samples, ClassPlan(6, places, 4, share=1.0), timeline, Reading(num_threads=0))
    assert batch["image"].shape == (6, 20, 20, 3)
    assert (batch["box"][:, 2:] <= batch["extent"][:, 2:] + 1e-4).all()
    seen = {size: 0 for size in ((24, 32), (20, 32))}
    for batch in eval_batches(source, Reading(num_threads=0), batch_size=2):
        assert batch["image"].shape[:3] == batch["label"].shape
        seen[batch["label"].shape[1:]] += int(batch["weight"].sum())
        for record, label in zip(batch["record"], batch["label"]):
            np.testing.assert_array_equal(label, source.label(int(record)) if record >= 0 else 255)
    assert seen == {(24, 32): 3, (20, 32): 3}


def test_what_is_read_of_the_key():
    assert read_resize(0.5, "dataset.resize") == Resize(0.5) and str(Resize(0.5)) == "by 0.5"
    assert read_resize({"width": 2048}, "") == Resize(width=2048) and str(Resize(width=2048)) == "to width 2048"
    assert [read_resize(value, "") for value in (None, "", {}, 1, 1.0)] == [None] * 5
    for value in (0, -0.5, True, "half", float("nan"), float("inf"), [2], {"width": 0}, {"width": 2.5}, {"height": 4}):
        with pytest.raises(UserError, match="config key dataset.resize=.* must be a factor above 0"):
            read_resize(value, "dataset.resize")
    with pytest.raises(UserError, match="fake-1, resized by 4000, would have 128000x128000 pixels.*; lower resize"):
        Resized(FakeSource(2, sizes=((24, 32), (32, 32))), Resize(4000))
