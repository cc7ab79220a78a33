import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from segjax.augment import augment_batch
from segjax.errors import UserError

MEAN, STD, CROP = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), (24, 32)
JITTER = dict(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25)
BLUR = dict(sigma=(0.15, 1.3), probability=1.0)


def make_batch(size=8, seed=0, extent=(30, 40)):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.5, 2.0, size)
    y0, x0 = rng.uniform(-4, 8, size), rng.uniform(-4, 8, size)
    return dict(
        image=rng.integers(0, 256, (size, 30, 40, 3), dtype=np.uint8),
        label=rng.integers(0, 11, (size, 30, 40), dtype=np.uint8),
        extent=np.tile(np.array([0, 0, *extent], np.float32), (size, 1)),
        box=np.stack([y0, x0, y0 + CROP[0] / scale, x0 + CROP[1] / scale], 1).astype(np.float32),
        index=rng.permutation(100)[:size].astype(np.int32),
        epoch=rng.integers(0, 3, size).astype(np.int32),
    )


def plain_batch():
    """Scale 1, box on whole pixels, nothing padded."""
    box = np.tile(np.array([2, 3, 26, 35], np.float32), (8, 1))
    return {**make_batch(), "box": box}


@functools.cache
def augment(**options):
    for name in ("color_jitter", "blur"):
        options[name] = dict(options[name]) if name in options else None
    options = {**dict(seed=1, crop=CROP, mean=MEAN, std=STD), **options}

    def images_and_labels(batch):
        images, targets = augment_batch(batch, **options)
        return images, targets["labels"]

    return jax.jit(images_and_labels)


ALL = dict(color_jitter=tuple(JITTER.items()), blur=tuple(BLUR.items()))


def test_shapes_and_types():
    images, labels = augment(**ALL)(make_batch())
    assert images.shape == (8, *CROP, 3) and images.dtype == jnp.float32
    assert labels.shape == (8, *CROP) and labels.dtype == jnp.int32
    assert set(np.unique(labels)) <= set(range(11)) | {255} and jnp.isfinite(images).all()


def test_without_augmentation_it_is_the_normalised_crop():
    batch = plain_batch()
    images, labels = augment(flip=False)(batch)
    expected = (batch["image"][:, 2:26, 3:35] / 255.0 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    np.testing.assert_array_equal(labels, batch["label"][:, 2:26, 3:35])


def whole(batch, **options):
    """(images, all targets) of `augment_batch`."""
    options = {**dict(seed=1, crop=CROP, mean=MEAN, std=STD), **options}
    return jax.jit(functools.partial(augment_batch, **options))(batch)


def test_soft_labels_come_from_the_pixel_of_the_label():
    """At any scale, mirrored or not: labels that number the source's pixels, and planes that follow from them."""
    batch = make_batch(extent=(20, 22))
    label = np.random.default_rng(1).permutation(250)[np.arange(8 * 1200) % 250].reshape(8, 30, 40)
    batch["label"] = label = label.astype(np.uint8)
    batch["soft_ids"] = np.stack([label, 250 - label, np.full_like(label, 255)], -1)
    batch["soft_shares"] = np.stack([label // 2, 200 - label // 2, np.full_like(label, 3)], -1)
    images, targets = whole(batch)
    labels, ids, shares = (np.asarray(targets[name]) for name in ("labels", "soft_ids", "soft_shares"))
    assert ids.shape == shares.shape == (8, *CROP, 3) and ids.dtype == np.int32 and shares.dtype == np.float32
    inside = (labels != 255)[..., None]
    assert 0.1 < inside.mean() < 0.9
    wanted = np.stack([labels, 250 - labels, np.full_like(labels, 255)], -1)
    np.testing.assert_array_equal(ids, np.where(inside, wanted, 255))
    wanted = np.stack([labels // 2, 200 - labels // 2, np.full_like(labels, 3)], -1)
    np.testing.assert_allclose(shares, np.where(inside, wanted, 0) / 255, rtol=1e-6)
    plain_images, plain_labels = augment()(batch)
    np.testing.assert_array_equal(labels, plain_labels)
    np.testing.assert_array_equal(images, plain_images)


def test_plain_images_have_the_crop_and_no_jitter_or_blur():
    batch = make_batch(extent=(20, 22))
    options = dict(color_jitter=JITTER, blur=BLUR)
    images, targets = whole(batch, plain=True, **options)
    wanted, labels = augment()(batch)
    np.testing.assert_allclose(targets["plain"], wanted, atol=1e-4)
    np.testing.assert_array_equal(targets["inside"], np.asarray(labels) < 255)
    np.testing.assert_array_equal(targets["labels"], labels)
    np.testing.assert_allclose(images, augment(**ALL)(batch)[0], atol=1e-4)
    assert np.abs(np.asarray(images) - np.asarray(wanted)).max() > 0.1


def many(function, batch, calls=16):
    """The batch again and again, each time with new indices."""
    parts = [function({**batch, "index": np.arange(8, dtype=np.int32) + 8 * i}) for i in range(calls)]
    return [np.concatenate(arrays) for arrays in zip(*parts)]


def test_about_half_are_mirrored_image_and_label_alike():
    batch = plain_batch()
    plain, labels = many(augment(flip=False), batch)
    images, flipped = many(augment(), batch)
    mirrored = np.array([np.array_equal(a[:, ::-1], b) for a, b in zip(labels, flipped)])
    same = np.array([np.array_equal(a, b) for a, b in zip(labels, flipped)])
    assert (mirrored ^ same).all() and 40 < mirrored.sum() < 88
    expected = np.where(mirrored[:, None, None, None], np.asarray(plain)[:, :, ::-1], plain)
    np.testing.assert_allclose(images, expected, atol=1e-4)


def test_padding_is_zero_ignored_and_in_no_pixel():
    batch = make_batch(extent=(20, 22))
    images, labels = augment(**ALL)(batch)
    padded = np.asarray(labels) == 255
    assert 0.2 < padded.mean() < 0.9
    assert (np.asarray(images)[padded] == 0).all()
    batch["image"][:, 20:], batch["image"][:, :, 22:] = 255, 255  # what lies outside the extent is never seen
    again, _ = augment(**ALL)(batch)
    np.testing.assert_array_equal(images, again)


def test_an_example_does_not_depend_on_its_batch():
    batch = make_batch()
    images, labels = augment(**ALL)(batch)
    order = np.array([5, 2, 7, 0, 0, 1, 2, 3])
    others, other_labels = augment(**ALL)({k: v[order] for k, v in batch.items()})
    np.testing.assert_allclose(others, np.asarray(images)[order], atol=1e-5)
    np.testing.assert_array_equal(other_labels, np.asarray(labels)[order])


@pytest.mark.parametrize("change", ["seed", "epoch", "index"])
def test_another_seed_epoch_or_index_gives_another_image(change):
    batch = make_batch()
    images, _ = augment(**ALL)(batch)
    if change == "seed":
        images, _ = augment(color_jitter=(("brightness", 0.5),))(batch)
        other, _ = augment(color_jitter=(("brightness", 0.5),), seed=2)(batch)
    else:
        other, _ = augment(**ALL)({**batch, change: batch[change] + 1})
    assert (np.abs(np.asarray(images) - np.asarray(other)).max(axis=(1, 2, 3)) > 0.01).all()


def test_the_same_on_one_device_and_on_eight():
    batch = make_batch()
    images, labels = augment(**ALL)(batch)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    spread = jax.device_put(batch, sharding)
    compiled = augment(**ALL).lower(spread).compile()
    assert not any(
        word in compiled.as_text() for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    )
    many, many_labels = compiled(spread)
    assert many.sharding.is_equivalent_to(sharding, 4)
    np.testing.assert_allclose(many, images, atol=1e-4)
    np.testing.assert_array_equal(many_labels, labels)


def test_blur_with_a_probability_leaves_some_sharp():
    plain, _ = many(augment(flip=False), plain_batch())
    images, _ = many(augment(flip=False, blur=(("sigma", (1.0, 1.3)), ("probability", 0.3))), plain_batch())
    sharp = np.abs(images - plain).max(axis=(1, 2, 3)) < 1e-3
    assert 0.55 < sharp.mean() < 0.85


def test_ignore_label_and_empty_settings():
    batch = make_batch(extent=(20, 22))
    one, labels = augment(flip=False, color_jitter=(), blur=(), ignore_label=99)(batch)
    two, other = augment(flip=False)(batch)
    assert (np.asarray(labels)[np.asarray(other) == 255] == 99).all()
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(color_jitter=dict(brightnes=0.1)), "Did you mean 'brightness'"),
        (dict(color_jitter=dict(hue=0.7)), "hue=0.7 must be from 0 to 0.5"),
        (dict(blur=dict(sigmas=(0, 1))), "Did you mean 'sigma'"),
        (dict(blur=dict(sigma=(2.0, 1.0))), "smaller one first"),
        (dict(blur=dict(sigma=1.0)), "sigma=1.0 must be two pixel widths"),
        (dict(blur=dict(probability=2.0)), "probability=2.0"),
        (dict(method="bilinea"), "Did you mean 'bilinear'"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        augment_batch(make_batch(), seed=0, crop=CROP, mean=MEAN, std=STD, **options)
