"""From plan to the device: what the network sees is the pixels, labels and places that were asked for."""

import functools

import jax
import numpy as np
import pytest

from segjax.augment import augment_batch
from segjax.data import ImageCrops, Timeline, plans, train_batches
from tests.data.fake_source import FakeSource

SOURCE = FakeSource(10, ((60, 80), (40, 30)))


def crops(plan, scale_range, **options):
    timeline = Timeline(plan.length, [((32, 48), 5)] * 6)
    augment = jax.jit(
        functools.partial(augment_batch, seed=0, crop=(32, 48), mean=(0, 0, 0), std=(1 / 255,) * 3, **options)
    )
    for _, batch in train_batches(ImageCrops(SOURCE, scale_range), plan, timeline):
        images, targets = jax.device_get(augment(batch))
        yield from zip(images, targets["labels"], batch["record"], batch["epoch"], batch["index"])


def test_image_and_label_show_the_same_place():
    """The image says which row and column of the source each pixel shows; the label must be the one found there."""
    checked = 0
    for image, label, record, _, _ in crops(plans.make_plan("uniform", {}, SOURCE), (1.0, 2.0)):
        height, width = SOURCE.sizes[record]
        y, x = image[..., 0] + 0.5, image[..., 1] + 0.5
        sure = label != 255
        for position, side in ((y, height), (x, width)):
            between = np.abs(position - np.round(position)) < 0.02  # two labels are as near
            sure &= ~between & (position > 1) & (position < side - 1)  # at the border, rows are repeated
        expected = SOURCE[record].label[np.floor(y).astype(int)[sure], np.floor(x).astype(int)[sure]]
        np.testing.assert_array_equal(label[sure], expected)
        np.testing.assert_allclose(image[..., 2][sure], record, atol=1e-3)
        checked += sure.sum()
    assert checked > 20000


@pytest.mark.parametrize("kind", ["class_uniform", "centroid"])
def test_the_class_that_was_asked_for_is_in_the_crop(kind):
    """Always, also where images are smaller than the crop; its blocks of 4x4 pixels cannot be stepped over."""
    plan, checked = plans.make_plan(kind, {}, SOURCE), 0
    for _, label, record, epoch, index in crops(plan, (0.5, 2.0)):
        y, x = plan.build(int(epoch)).places[index]
        if y >= 0:
            assert SOURCE[record].label[y, x] in label
            checked += 1
    assert checked >= 20
