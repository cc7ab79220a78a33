"""Image and mask files: all kinds are read right, and damaged ones are refused by name."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segjax.data.image_files import (
    decode_image,
    decode_mask,
    encode_png,
    image_size,
    is_plain_rgb,
    read_bytes,
    read_image,
    read_mask,
)
from segjax.errors import UserError

RNG = np.random.default_rng(0)
IMAGE = cv2.resize(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8), (96, 64))


def encoded(extension: str, image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(extension, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def pil(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tiff", ".ppm"])
def test_lossless_images_come_back_exactly(extension):
    np.testing.assert_array_equal(decode_image(encoded(extension), "x"), IMAGE)


def test_jpeg_equals_pillow():
    data = encoded(".jpg")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_image(data, "x") - expected).max() <= 4  # two decoders' rounding


def test_grey_16_bit_and_alpha_images():
    grey = IMAGE[..., 0]
    np.testing.assert_array_equal(decode_image(encoded(".png", grey), "x"), np.stack([grey] * 3, -1))
    deep = IMAGE.astype(np.uint16) * 256 + 17
    np.testing.assert_array_equal(decode_image(encoded(".png", deep), "x"), IMAGE)
    alpha = pil(Image.fromarray(np.dstack([IMAGE, np.full((64, 96), 7, np.uint8)])))
    np.testing.assert_array_equal(decode_image(alpha, "x"), IMAGE)
    palette = pil(Image.fromarray(IMAGE).quantize(16))
    expected = np.asarray(Image.open(io.BytesIO(palette)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(palette, "x"), expected)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(tmp_path, format):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned.{format.lower()}"
    options = {"tiffinfo": {0x0112: 6}} if format == "TIFF" else {"exif": exif}
    path.write_bytes(pil(Image.fromarray(IMAGE), format, **options))
    assert read_image(path).shape == (96, 64, 3)
    assert image_size(path) == (96, 64)
    assert not is_plain_rgb(path.read_bytes())


@settings(max_examples=60)
@given(extension=st.sampled_from([".png", ".jpg", ".webp", ".bmp", ".tiff"]), share=st.floats(0.01, 0.999))
def test_truncated_files_are_refused(extension, share):
    data = encoded(extension)
    cut = data[: max(4, int(len(data) * share))]
    if extension == ".bmp" and len(data) - len(cut) < 4:
        return  # row padding
    with pytest.raises(UserError, match=r"^photo\.x is .*(truncated|damaged).*again$"):
        decode_image(cut, "photo.x")


@settings(max_examples=30)
@given(share=st.floats(0.0, 0.999), palette=st.booleans())
def test_truncated_masks_are_refused(share, palette):
    mask = np.arange(400, dtype=np.uint8).reshape(20, 20) % 7
    data = pil(Image.fromarray(mask).convert("P")) if palette else encode_png(mask)
    with pytest.raises(UserError, match="m.png"):
        decode_mask(data[: int(len(data) * share)], "m.png")


def test_flipped_bit_in_a_palette_mask_is_refused():
    data = bytearray(pil(Image.fromarray(RNG.integers(0, 200, (40, 40), dtype=np.uint8)).convert("P")))
    data[-200] ^= 1
    with pytest.raises(UserError, match="damaged"):
        decode_mask(bytes(data), "m.png")


def test_bytes_after_the_end_are_legal():
    for extension in (".jpg", ".png", ".webp"):
        assert decode_image(encoded(extension) + b"\0" * 9, "x").shape == IMAGE.shape


@settings(max_examples=40)
@given(
    data=st.binary(min_size=1, max_size=300), head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"])
)
def test_garbage_is_refused(data, head):
    for decode in (decode_image, decode_mask):
        with pytest.raises(UserError):
            decode(head + data, "x")


def test_plain_masks_keep_their_ids():
    mask = RNG.integers(0, 256, (8, 9), dtype=np.uint8)
    np.testing.assert_array_equal(decode_mask(encode_png(mask), "m"), mask)
    deep = RNG.integers(0, 65536, (8, 9), dtype=np.uint16)
    read = decode_mask(encode_png(deep), "m")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, deep)
    as_rgb = np.repeat(mask[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_mask(encode_png(as_rgb), "m"), mask)
    with_alpha = np.dstack([as_rgb, np.full((8, 9), 255, np.uint8)])
    np.testing.assert_array_equal(decode_mask(pil(Image.fromarray(with_alpha)), "m"), mask)


@pytest.mark.parametrize("count", [2, 4, 16, 200])  # 1, 2, 4, 8 bits per pixel
@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_palette_masks_read_as_index_or_colour(count, format):
    index = RNG.integers(0, count, (7, 9), dtype=np.uint8)
    colors = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette(colors[:count].tobytes())
    data = pil(image, format)
    np.testing.assert_array_equal(decode_mask(data, "m"), index)
    np.testing.assert_array_equal(decode_mask(data, "m", coding="color"), colors[index])


def test_colour_masks():
    np.testing.assert_array_equal(decode_mask(encoded(".png"), "m", coding="color"), IMAGE)
    with pytest.raises(UserError, match="'coding': 'color'"):
        decode_mask(encoded(".png"), "m")
    grey = IMAGE[..., 0]
    np.testing.assert_array_equal(decode_mask(encode_png(grey), "m", coding="color"), np.stack([grey] * 3, -1))
    with pytest.raises(UserError, match="8 bits per channel"):
        decode_mask(encode_png(grey.astype(np.uint16)), "m", coding="color")


def test_lossy_masks_are_refused():
    lossy = cv2.imencode(".webp", IMAGE, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()
    for data in (encoded(".jpg"), lossy):
        with pytest.raises(UserError, match="loss.*PNG"):
            decode_mask(data, "m", coding="color")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_bytes(tmp_path / "no.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match="empty"):
        read_mask(tmp_path / "empty.png")
    with pytest.raises(UserError, match="empty"):
        image_size(tmp_path / "empty.png")
    with pytest.raises(UserError, match="cannot be read"):
        read_bytes(tmp_path)
    (tmp_path / "text.png").write_text("hello, this is a text")
    with pytest.raises(UserError, match="not an image"):
        image_size(tmp_path / "text.png")


def test_sizes_come_from_the_header(tmp_path):
    for extension in (".png", ".jpg", ".webp", ".bmp"):
        path = tmp_path / f"x{extension}"
        data = encoded(extension)
        path.write_bytes(data if extension == ".webp" else data[:-20])  # the header suffices
        assert image_size(path) == (64, 96)


def test_plain_rgb_is_what_other_decoders_read_alike():
    assert is_plain_rgb(encoded(".png")) and is_plain_rgb(encoded(".jpg"))
    assert not is_plain_rgb(encoded(".png", IMAGE[..., 0]))
    assert not is_plain_rgb(encoded(".png", IMAGE.astype(np.uint16)))
    assert not is_plain_rgb(encoded(".webp"))
