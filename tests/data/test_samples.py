"""Crops of labelled images: the arrays of a sample, and what a batch of them holds."""

import inspect
import pickle

import numpy as np
import pytest

from segjax.data import Bucket, ImageCrops, Reading, Timeline, batch_spec, plans, train_batches
from segjax.data.joined import Joined, Subset
from segjax.errors import UserError
from tests.data.fake_source import FakeSource, SoftSource

SIZES = ((24, 32), (20, 40), (10, 12))
SHAPES = (((16, 16), 4), ((8, 12), 8), ((16, 16), 4))


def crops(scale_range=(0.5, 2.0), **options):
    return ImageCrops(FakeSource(11, SIZES, **options), scale_range)


@pytest.fixture(scope="module")
def whole():
    samples = crops()
    plan = plans.make_plan("class_uniform", {}, samples.source, seed=5)
    return list(train_batches(samples, plan, Timeline(plan.length, SHAPES)))


def test_batches_are_as_their_spec_describes_them(whole):
    samples = pickle.loads(pickle.dumps(crops()))
    assert batch_spec(samples, Bucket((8, 12), 8)) == {
        "image": ((8, 16, 24, 3), np.uint8),
        "label": ((8, 16, 24), np.uint8),
        "extent": ((8, 4), np.float32),
        "box": ((8, 4), np.float32),
        "index": ((8,), np.int32),
        "epoch": ((8,), np.int32),
        "record": ((8,), np.int32),
    }
    for step, batch in whole:
        spec = batch_spec(samples, Bucket(*SHAPES[1 if step == 2 else 0]))
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == spec
    assert len(samples) == 11 and samples.names[3] == "fake-3" and samples.sizes.tolist()[:3] == [*map(list, SIZES)]


def test_windows_hold_the_pixels_of_their_place(whole):
    source = FakeSource(11, SIZES)
    for _, batch in whole:
        for image, label, extent, record in zip(*(batch[k] for k in ("image", "label", "extent", "record"))):
            h, w = extent[2:].astype(int)
            assert (image[:h, :w, 2] == record).all()
            y, x = int(image[0, 0, 0]), int(image[0, 0, 1])  # rows and columns are written into the image
            assert (image[:h, :w] == source[record].image[y : y + h, x : x + w]).all()
            assert (label[:h, :w] == source[record].label[y : y + h, x : x + w]).all()
            assert (label[h:] == 255).all() and (label[:, w:] == 255).all() and not image[h:].any()


def test_the_place_of_the_plan_is_in_the_box(whole):
    plan = plans.make_plan("class_uniform", {}, FakeSource(11, SIZES), seed=5)
    checked = 0
    for _, batch in whole:
        for i in range(len(batch["index"])):
            y, x = plan.build(int(batch["epoch"][i])).places[batch["index"][i]]
            if y >= 0:
                y0, x0 = batch["image"][i, 0, 0, :2].astype(int)
                top, left, bottom, right = batch["box"][i]
                assert top <= y - y0 and y - y0 + 1 <= bottom and left <= x - x0 and x - x0 + 1 <= right
                checked += 1
    assert checked >= 5


class WideSource(SoftSource):
    """With places for four classes, the last of them empty."""

    top_k = 4

    def __getitem__(self, index):
        record = super().__getitem__(index)
        more = [(0, 0), (0, 0), (0, 2)]
        record.soft_ids = np.pad(record.soft_ids, more, constant_values=255)
        record.soft_shares = np.pad(record.soft_shares, more)
        return record


def test_soft_labels_are_cut_as_labels_are():
    """Beside real records, whose label is the one class, and records with more classes."""
    sizes = dict(sizes=SIZES, num_classes=5)
    sources = [FakeSource(3, **sizes), SoftSource(3, **sizes), WideSource(3, **sizes)]
    samples = ImageCrops(Reading(cache_bytes=10**6).cached(Joined(sources)), (0.5, 2.0))
    assert samples.source.top_k == 4 and Joined(sources[:2]).top_k == 2 and Joined(sources[:1]).top_k == 0
    assert Subset(sources[1], np.arange(2)).top_k == 2
    bucket = Bucket((16, 16), 1)
    for record in range(9):
        window = samples.window(bucket)
        found = samples.read(record, np.array([5, 7]), bucket, np.random.default_rng(record))
        spec = samples.spec(bucket)
        assert {name: (array.shape, array.dtype) for name, array in found.items()} == spec
        assert spec["soft_ids"] == spec["soft_shares"] == ((*window, 4), np.uint8)
        label, ids, shares = found["label"], found["soft_ids"], found["soft_shares"]
        np.testing.assert_array_equal(ids[..., 0], label)
        known = label < 255
        columns = found["image"][..., 1]  # of the source image
        second = columns if record >= 3 else 0 * columns
        np.testing.assert_array_equal(shares[..., 0], np.where(known, 255 - second, 0))
        np.testing.assert_array_equal(shares[..., 1], np.where(known, second, 0))
        np.testing.assert_array_equal(ids[..., 1], np.where(known & (record >= 3), (label + 1) % 5, 255))
        assert (ids[..., 2:] == 255).all() and not shares[..., 2:].any() and known.any()


def test_records_that_the_network_labels_need_no_label():
    samples = ImageCrops(FakeSource(5, unlabelled=3), unlabelled=[(0, 1), (2, 4)])
    read = lambda record: samples.read(record, np.array([-1, -1]), Bucket((8, 8), 2), np.random.default_rng(0))  # noqa: E731
    assert (read(3)["label"] == 255).all() and read(3)["image"].any()
    assert (read(2)["label"] < 255).any()
    with pytest.raises(UserError, match="fake-3 has no label to train on"):
        ImageCrops(samples.source, unlabelled=[(0, 3), (4, 5)]).read(
            3, np.array([-1, -1]), Bucket((8, 8), 2), np.random.default_rng(0)
        )


def test_settings_and_records_that_cannot_be():
    bucket = Bucket((8, 8), 2)
    crops().check([bucket])
    with pytest.raises(UserError, match="scale_range"):
        crops((2.0, 0.5)).check([bucket])
    with pytest.raises(UserError, match="fake-2 has no label to train on"):
        crops(unlabelled=2).read(2, np.array([-1, -1]), bucket, np.random.default_rng(0))


def test_a_recipe_sets_no_option_of_the_samples():
    parameters = inspect.signature(ImageCrops).parameters.values()
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
