import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segjax.augment.geometric import covered, crop_label, crop_resize
from segjax.errors import UserError

H, W, CROP = 23, 31, (16, 20)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 12, (H, W), dtype=np.uint8)
WHOLE = np.array([0, 0, H, W], np.float32)
PIL_FILTER = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}

resize = jax.jit(crop_resize, static_argnames=("size", "method", "antialias"))
label_of = jax.jit(crop_label, static_argnames=("size", "ignore_label"))
shown = jax.jit(covered, static_argnames=("size",))


def pil_resize(plane, box, size, resample):
    y0, x0, y1, x1 = (float(v) for v in box)
    image = Image.fromarray(plane.astype(np.float32), mode="F")
    return np.asarray(image.resize((size[1], size[0]), resample, box=(x0, y0, x1, y1)))


BOXES = st.tuples(st.floats(0, 9), st.floats(0, 9), st.floats(4, 13.5), st.floats(4, 21.5)).map(
    lambda t: np.array([t[0], t[1], t[0] + t[2], t[1] + t[3]], np.float32)
)


@settings(max_examples=40)
@given(BOXES, st.sampled_from(["bilinear", "bicubic"]))
def test_resampling_is_that_of_pil(box, method):
    planes = resize(IMAGE, extent=WHOLE, box=box, size=CROP, method=method)
    for c in range(3):
        expected = np.clip(pil_resize(IMAGE[..., c], box, CROP, PIL_FILTER[method]), 0, 255)
        np.testing.assert_allclose(planes[c], expected, atol=2e-3)


def test_shrinking_the_whole_image_is_antialiased_as_in_pil_unless_told_otherwise():
    size = (6, 7)
    smooth = resize(IMAGE, extent=WHOLE, box=WHOLE, size=size)
    sharp = resize(IMAGE, extent=WHOLE, box=WHOLE, size=size, antialias=False)
    np.testing.assert_allclose(smooth[1], pil_resize(IMAGE[..., 1], WHOLE, size, Image.BILINEAR), atol=2e-3)
    y, x = (np.arange(6) + 0.5) * H / 6 - 0.5, (np.arange(7) + 0.5) * W / 7 - 0.5
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - y0)[:, None], (x - x0)[None]
    p = IMAGE[..., 1].astype(float)
    top = p[y0][:, x0] * (1 - fx) + p[y0][:, x0 + 1] * fx
    bottom = p[y0 + 1][:, x0] * (1 - fx) + p[y0 + 1][:, x0 + 1] * fx
    np.testing.assert_allclose(sharp[1], top * (1 - fy) + bottom * fy, atol=2e-3)


def test_scale_one_copies_pixels():
    box = np.array([3, 5, 3 + 16, 5 + 20], np.float32)
    for method in ("bilinear", "bicubic"):
        planes = resize(IMAGE, extent=WHOLE, box=box, size=CROP, method=method)
        np.testing.assert_allclose(np.stack(planes, -1), IMAGE[3:19, 5:25], atol=1e-4)
    np.testing.assert_array_equal(label_of(LABEL, extent=WHOLE, box=box, size=CROP), LABEL[3:19, 5:25])


@settings(max_examples=60)
@given(st.floats(-9, 20), st.floats(-9, 20), st.floats(3, 40), st.floats(3, 40), st.booleans())
def test_labels_are_the_nearest_pixel_and_ignored_outside(y0, x0, h, w, flip):
    box = np.array([y0, x0, y0 + h, x0 + w], np.float32)
    extent = np.array([0, 0, 20, 27], np.float32)
    got = np.asarray(label_of(LABEL, extent=extent, box=box, size=CROP, flip=flip))
    inside = np.asarray(shown(extent=extent, box=box, size=CROP, flip=flip))
    box = box.astype(np.float64)
    y = box[0] + (np.arange(CROP[0]) + 0.5) * (box[2] - box[0]) / CROP[0]
    x = box[1] + (np.arange(CROP[1]) + 0.5) * (box[3] - box[1]) / CROP[1]
    x = x[::-1] if flip else x
    sure_y, sure_x = np.abs(y - np.round(y)) > 1e-4, np.abs(x - np.round(x)) > 1e-4  # not between two pixels
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    valid = ((rows >= 0) & (rows < 20))[:, None] & ((columns >= 0) & (columns < 27))
    expected = np.where(valid, LABEL[np.clip(rows, 0, H - 1)][:, np.clip(columns, 0, W - 1)], 255)
    sure = sure_y[:, None] & sure_x
    np.testing.assert_array_equal(got[sure], expected[sure])
    np.testing.assert_array_equal(inside[sure], valid[sure])
    assert set(np.unique(got)) <= set(np.unique(LABEL)) | {255}


def test_flip_mirrors_image_and_label():
    box = np.array([-3.3, 2.2, 19.1, 33.0], np.float32)
    options = dict(extent=WHOLE, box=box, size=CROP)
    for plain, mirrored in zip(resize(IMAGE, **options), resize(IMAGE, **options, flip=True)):
        np.testing.assert_allclose(plain[:, ::-1], mirrored, atol=1e-3)
    np.testing.assert_array_equal(label_of(LABEL, **options)[:, ::-1], label_of(LABEL, **options, flip=True))


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_padding_never_bleeds_into_pixels(method, scale):
    """The same crop whatever lies outside the extent, and the border repeated there."""
    extent = np.array([0, 0, 15, 18], np.float32)
    center, half = np.array([7.5, 9.0]), np.array(CROP) / scale / 2
    box = np.concatenate([center - half, center + half]).astype(np.float32)
    noisy, black = IMAGE.copy(), IMAGE.copy()
    noisy[15:], noisy[:, 18:], black[15:], black[:, 18:] = 255, 255, 0, 0
    options = dict(extent=extent, box=box, size=CROP, method=method)
    one, two = np.stack(resize(noisy, **options)), np.stack(resize(black, **options))
    np.testing.assert_array_equal(one, two)
    # and beyond the border its nearest pixels
    inside = np.asarray(shown(extent=extent, box=box, size=CROP))
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if method == "bilinear" and scale >= 1.0 and rows[0] > 0:
        np.testing.assert_allclose(one[:, 0, columns], one[:, rows[0] - 1, columns], atol=1e-3)
    assert np.isfinite(one).all() and inside.any()


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="Did you mean 'bicubic'"):
        crop_resize(IMAGE, extent=WHOLE, box=WHOLE, size=CROP, method="bicubik")
