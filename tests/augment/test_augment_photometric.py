import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image, ImageEnhance

from segjax.augment import NORMALISATION, normalisation, normalise, photometric
from segjax.errors import UserError

IMAGE = np.random.default_rng(1).integers(0, 256, (17, 23, 3), dtype=np.uint8)
GREYS = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 3, axis=2)


def planes(image):
    return tuple(jnp.asarray(image[..., c], jnp.float32) / 255 for c in range(3))


def pixels(planes):
    return np.stack(planes, -1) * 255


def hue_by_matplotlib(image, shift):
    hsv = rgb_to_hsv(image.astype(np.float64) / 255)
    hsv[..., 0] = (hsv[..., 0] + shift) % 1.0
    return hsv_to_rgb(hsv) * 255


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.25, 2.0])
@pytest.mark.parametrize(
    "ours, pil",
    [
        (photometric.adjust_brightness, ImageEnhance.Brightness),
        (photometric.adjust_contrast, ImageEnhance.Contrast),
        (photometric.adjust_saturation, ImageEnhance.Color),
    ],
)
def test_steps_are_those_of_pil(ours, pil, factor):
    expected = np.asarray(pil(Image.fromarray(IMAGE)).enhance(factor)).astype(float)
    np.testing.assert_allclose(pixels(ours(planes(IMAGE), factor)), expected, atol=2.0)  # PIL rounds to whole levels


@settings(max_examples=50)
@given(st.floats(-0.5, 0.5))
def test_hue_turns_as_in_hsv(shift):
    for image in (IMAGE, GREYS):
        got = pixels(photometric.adjust_hue(planes(image), shift))
        np.testing.assert_allclose(got, hue_by_matplotlib(image, shift), atol=2e-2)


def test_hue_of_pure_colours():
    red = np.array([[[255, 0, 0]]], np.uint8)
    for shift, expected in [(0, (255, 0, 0)), (1 / 3, (0, 255, 0)), (-1 / 3, (0, 0, 255)), (1 / 6, (255, 255, 0))]:
        np.testing.assert_allclose(pixels(photometric.adjust_hue(planes(red), shift))[0, 0], expected, atol=1e-3)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_jitter_does_the_steps_in_the_order_drawn(order):
    drawn = dict(brightness=1.2, contrast=0.7, saturation=1.4, hue=0.2)
    expected = planes(IMAGE)
    for step in order:
        name = photometric.JITTER[step]
        expected = getattr(photometric, f"adjust_{name}")(expected, drawn[name])
    ranks = jnp.argsort(jnp.array(order))  # when each step comes
    got = photometric.color_jitter(planes(IMAGE), {**{k: jnp.float32(v) for k, v in drawn.items()}, "order": ranks})
    np.testing.assert_allclose(pixels(got), pixels(expected), atol=1e-2)


def test_contrast_looks_at_the_mask_only():
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[:, :9] = True
    got = pixels(photometric.adjust_contrast(planes(IMAGE), 0.5, mask=jnp.asarray(mask)))
    alone = pixels(photometric.adjust_contrast(planes(IMAGE[:, :9]), 0.5))
    np.testing.assert_allclose(got[:, :9], alone, atol=1e-3)


def test_what_jitter_draws():
    ranges = dict(brightness=0.25, contrast=0.1, hue=0.05)
    drawn = jax.jit(jax.vmap(lambda key: photometric.draw_jitter(key, ranges)))(
        jax.random.split(jax.random.key(0), 2000)
    )
    for name, center, half in [("brightness", 1, 0.25), ("contrast", 1, 0.1), ("saturation", 1, 0), ("hue", 0, 0.05)]:
        values = np.asarray(drawn[name])
        assert (np.abs(values - center) <= half + 1e-6).all()
        assert np.ptp(values) >= 1.9 * half and abs(values.mean() - center) <= 0.1 * half + 1e-6
    orders, counts = np.unique(np.asarray(drawn["order"]), axis=0, return_counts=True)
    assert len(orders) == 24 and counts.min() > 45  # 83 each on average
    assert (np.sort(orders, axis=1) == np.arange(4)).all()


@pytest.mark.parametrize("sigma", [0.15, 0.4, 0.9, 1.3])
def test_blur_is_that_of_scipy(sigma):
    plane = IMAGE[..., 0].astype(np.float32)
    expected = scipy.ndimage.gaussian_filter(plane.astype(np.float64), sigma, mode="nearest", truncate=4.0)
    got = photometric.gaussian_blur(jnp.asarray(plane), jnp.float32(sigma), max_sigma=1.3)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_blur_of_nothing_and_of_a_flat_plane_changes_nothing():
    plane = jnp.asarray(IMAGE[..., 0], jnp.float32)
    np.testing.assert_array_equal(photometric.gaussian_blur(plane, jnp.float32(0.0), max_sigma=1.3), plane)
    flat = photometric.gaussian_blur(jnp.full((9, 4), 7.0), jnp.float32(1.3), max_sigma=1.3)
    np.testing.assert_allclose(flat, 7.0, rtol=1e-6)


@pytest.mark.parametrize("name", NORMALISATION)
def test_normalise(name):
    mean, std = normalisation(name)
    expected = (IMAGE / 255.0 - np.array(mean)) / np.array(std)
    got = normalise(jnp.asarray(IMAGE), mean=mean, std=std)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-5 + 1e-7 / min(std))
    assert 0 <= min(mean) <= max(mean) < 1 and min(std) > 0


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(UserError, match="Did you mean 'imagenet'"):
        normalisation("imagnet")
