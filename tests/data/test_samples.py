"""Crops of labelled images: the arrays of a sample, and what a batch of them holds."""

import inspect
import pickle

import numpy as np
import pytest

from segjax.data import Bucket, ImageCrops, Timeline, batch_spec, plans, train_batches
from segjax.errors import UserError
from tests.data.fake_source import FakeSource

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
