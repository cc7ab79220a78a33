"""Samples as stored: bits, alpha, orientation, frames and white of every container."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segjax.data.image_files import decode_image, decode_mask, image_and_remarks, mask_and_remarks
from segjax.data.image_samples import turn
from segjax.errors import UserError
from tests.data.image_tools import AVIF, chunk, palette, pil, png, turned

RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
IDS = RNG.integers(0, 4, (6, 9), dtype=np.uint8)
COLORS = RNG.integers(0, 256, (4, 3), dtype=np.uint8)


def packed(ids, bits):
    each = (ids[..., None] >> np.arange(bits)[::-1].astype(np.uint8)) & 1
    return [np.packbits(row).tobytes() for row in each.reshape(len(ids), -1)]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_ids_of_few_bits_are_not_scaled(bits):
    ids = RNG.integers(0, 2**bits, (6, 9)).astype(np.uint8)
    data = png(packed(ids, bits), 9, bits, 0)
    np.testing.assert_array_equal(decode_mask(data, "m"), ids)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    np.testing.assert_array_equal(decode_image(data, "m"), np.dstack([shown] * 3))
    np.testing.assert_array_equal(decode_mask(data, "m", coding="color"), np.dstack([shown] * 3))


def test_transparent_colours_of_palettes_stay_ids():
    for transparency in (0, b"\0\x80\xff\0"):
        data = pil(palette(IDS, COLORS), transparency=transparency)
        np.testing.assert_array_equal(decode_mask(data, "m"), IDS)
        np.testing.assert_array_equal(decode_mask(data, "m", coding="color"), COLORS[IDS])


def test_gif_masks_are_palettes():
    for frames in ({}, {"save_all": True, "append_images": [palette(3 - IDS, COLORS)]}):
        data = pil(palette(IDS, COLORS), "GIF", **frames)
        np.testing.assert_array_equal(decode_mask(data, "m", coding="color"), COLORS[IDS])
        np.testing.assert_array_equal(decode_image(data, "m"), COLORS[IDS])
        assert len(np.unique(decode_mask(data, "m"))) == 4


@pytest.mark.parametrize("white", [1, 3, 20, 255, 300, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_pnm_with_any_white(kind, white):
    ids = RNG.integers(0, white + 1, (6, 9))
    ids[0, 0] = white
    many = np.repeat(ids[..., None], 3, axis=2) if kind in ("P3", "P6") else ids
    if kind in ("P2", "P3"):
        body = " ".join(map(str, many.ravel())).encode()
    else:
        body = many.astype(np.uint8 if white < 256 else ">u2").tobytes()
    data = b"%s\n# made by hand\n9 6\n%d\n" % (kind.encode(), white) + body
    np.testing.assert_array_equal(decode_mask(data, "m"), ids)
    image = decode_image(data, "x")
    assert np.abs(image - ids[..., None] * 255 / white).max() <= (0.5 if white < 65535 else 1)
    with pytest.raises(UserError, match="damaged"):
        decode_mask(data[: len(data) // 2], "m")


def test_pbm_has_white_as_one():
    ids = IDS % 2
    for data in (pil(Image.fromarray(ids * 255).convert("1"), "PPM"), b"P1 9 6 " + bytes(49 - ids.ravel())):
        np.testing.assert_array_equal(decode_mask(data, "m"), ids)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_is_what_pillow_does(orientation):
    image = Image.open(io.BytesIO(pil(IMAGE, exif=turned(orientation))))
    from PIL import ImageOps

    np.testing.assert_array_equal(turn(IMAGE, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("kind", ["grey", "palette", "alpha"])
def test_masks_turn_with_their_image(orientation, format, kind):
    mask = {"grey": IDS, "palette": palette(IDS, COLORS), "alpha": np.dstack([IDS] * 3 + [IDS * 0 + 255])}[kind]
    options = {"lossless": True} if format == "WEBP" else {}
    data = pil(mask, format, exif=turned(orientation), **options)
    photo = pil(np.dstack([IDS] * 3), format, exif=turned(orientation), **options)
    found = decode_mask(data, "m", coding="color" if kind == "palette" else "id")
    expected = decode_image(photo, "x")[..., 0]
    np.testing.assert_array_equal(found, COLORS[expected] if kind == "palette" else expected)


def test_orientation_after_the_pixels_and_in_damaged_exif(tmp_path):
    from segjax.data.image_files import image_size, read_image, read_mask
    from segjax.data.image_header import read_header

    data = pil(IMAGE)
    end = len(data) - 12
    exif = turned(6).removeprefix(b"Exif\0\0")
    late = data[:end] + chunk(b"eXIf", exif) + data[end:]
    np.testing.assert_array_equal(decode_image(late, "x"), turn(IMAGE, 6))
    path = tmp_path / "a.png"
    path.write_bytes(late)
    assert read_header(late, "x").size == image_size(path) == read_image(path).shape[:2] == (9, 6)
    assert read_mask(path, coding="color").shape == (9, 6, 3)
    for broken in (b"", b"II*\0", exif[:12], exif.replace(b"\0\6", b"\0\x63")):
        np.testing.assert_array_equal(decode_image(data[:end] + chunk(b"eXIf", broken) + data[end:], "x"), IMAGE)


@pytest.mark.parametrize("coding", ["id", "color"])
def test_transparent_pixels_are_not_labelled(coding):
    opaque = RNG.integers(0, 2, IDS.shape).astype(np.uint8)
    color = np.dstack([IDS] * 3) if coding == "id" else COLORS[IDS]
    hole = 255 if coding == "id" else (9, 8, 7)
    for alpha in (opaque * 255, opaque * 3):
        data = pil(np.dstack([color, alpha]))
        expected = color.copy()
        expected[opaque == 0] = hole
        found, remarks = mask_and_remarks(data, "m", coding=coding, transparent=hole)
        np.testing.assert_array_equal(found, expected[..., 0] if coding == "id" else expected)
        assert [remark[:29] for remark in remarks] == ["masks with transparent pixels"]
        with pytest.raises(UserError, match=f"^m has {(opaque == 0).sum()} transparent pixels.*train_id 255"):
            decode_mask(data, "m", coding=coding)
    nothing = np.zeros_like(opaque)
    with pytest.raises(UserError, match="m is fully transparent, though its pixels differ; save it without alpha"):
        decode_mask(pil(np.dstack([color, nothing])), "m", coding=coding, transparent=hole)
    empty = decode_mask(pil(np.dstack([nothing] * 4)), "m", coding=coding, transparent=hole)
    assert (empty == hole).all()


def test_fully_transparent_images_show_their_colours():
    data = pil(np.dstack([IMAGE, np.zeros((6, 9), np.uint8)]))
    image, remarks = image_and_remarks(data, "x")
    np.testing.assert_array_equal(image, IMAGE)
    assert len(remarks) == 1 and "fully transparent" in remarks[0]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "TIFF"])
def test_of_several_pictures_the_first_is_read(format):
    first, second = (Image.fromarray(IMAGE).quantize(64), Image.fromarray(255 - IMAGE).quantize(64))
    if format != "GIF":
        first, second = first.convert("RGB"), second.convert("RGB")
    options = {"lossless": True} if format == "WEBP" else {}
    expected = np.asarray(first.convert("RGB"))
    image, remarks = image_and_remarks(pil(first, format, save_all=True, append_images=[second], **options), "x")
    np.testing.assert_array_equal(image, expected)
    assert len(remarks) == 1 and "whose first picture is read" in remarks[0]
    image, remarks = image_and_remarks(pil(first, format, **options), "x")
    np.testing.assert_array_equal(image, expected)
    assert not remarks


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits_that_use_fewer(bits, channels):
    deep = RNG.integers(0, 2**bits, (6, 9, 3)).astype(np.uint16)
    deep[0, 0] = 2**bits - 1
    deep = deep if channels == 3 else deep[..., 0]
    for extension in (".png", ".tiff", ".ppm" if channels == 3 else ".pgm"):
        data = cv2.imencode(extension, deep)[1].tobytes()
        if bits > 14:
            expected = (deep >> 8)[..., ::-1] if channels == 3 else np.dstack([deep >> 8] * 3)
            found = decode_image(data, "x").astype(int)
            assert np.abs(found - expected).max() <= 0
        else:
            used = {9: 10}.get(bits, bits)
            with pytest.raises(UserError, match=f"^x seems to use {used} of its 16 .* by {2 ** (16 - used)}, or save"):
                decode_image(data, "x")
        np.testing.assert_array_equal(decode_mask(data, "m") if channels == 1 else deep, deep)
    black = cv2.imencode(".png", np.zeros((4, 5), np.uint16))[1].tobytes()
    assert not decode_image(black, "x").any()


def test_lossy_masks_are_refused_in_every_container():
    rgba = np.dstack([IMAGE, np.full((6, 9), 200, np.uint8)])
    moving = {"save_all": True, "append_images": [Image.fromarray(255 - IMAGE)]}
    for data, name in (
        (pil(IMAGE, "JPEG"), "is compressed with loss .JPEG."),
        (pil(IMAGE, "WEBP"), "is compressed with loss .WebP."),
        (pil(rgba, "WEBP"), "is compressed with loss .WebP."),
        (pil(IMAGE, "WEBP", exif=turned(1)), "is compressed with loss .WebP."),
        (pil(IMAGE, "WEBP", **moving), "is compressed with loss .WebP."),
        (pil(IMAGE, "TIFF", compression="jpeg"), "is compressed with loss .JPEG in a TIFF."),
        *([(pil(IMAGE, "AVIF"), "may be compressed with loss .AVIF.")] if AVIF else []),
        (pil(IMAGE, "JPEG2000", irreversible=True, quality_layers=[20]), "may be compressed with loss .JPEG 2000."),
    ):
        for coding in ("id", "color"):
            with pytest.raises(UserError, match=f"^m.png {name}.*save masks as PNG"):
                decode_mask(data, "m.png", coding=coding)
        assert np.abs(decode_image(data, "m.png").astype(int) - IMAGE).mean() < 80  # as a photo it is fine
    np.testing.assert_array_equal(
        decode_mask(pil(rgba, "WEBP", lossless=True, exact=True), "m", coding="color", transparent=(0, 0, 0)), IMAGE
    )


def test_chunks_about_which_libpng_warns(capfd):
    profile = chunk(b"iCCP", b"sRGB\0\0broken")
    for extra in (profile, chunk(b"gAMA", b"\0\0\0\0") * 2, chunk(b"zTXt", b"a\0\0broken"), chunk(b"sRGB", b"\x09")):
        for bits, array in ((8, IMAGE), (16, IMAGE.astype(">u2") * 257)):
            data = png([row.tobytes() for row in array], 9, bits, 2, before=extra)
            np.testing.assert_array_equal(decode_image(data, "x"), IMAGE)
    assert capfd.readouterr().err == ""


def test_compressed_pixels_that_do_not_fit_are_refused_without_a_word(capfd):
    """Their checksums are right, so that only libpng itself would notice, and print."""
    rows = [row.tobytes() for row in IMAGE.astype(">u2") * 257]
    for bad in ([*rows[:-1], rows[0][:-3]], [*rows[:-1], rows[0] + b"\0\0"]):
        with pytest.raises(UserError, match="x is (truncated or )?damaged"):
            decode_image(png(bad, 9, 16, 2), "x")
    wrong = bytearray(png(rows, 9, 16, 2))
    wrong[33:] = chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b"")
    with pytest.raises(UserError, match="damaged"):
        decode_image(bytes(wrong), "x")
    assert capfd.readouterr().err == ""


def test_16_bit_colours_of_any_alpha_and_interlacing():
    deep = IMAGE.astype(np.uint16) * 257
    alpha = np.dstack([deep, np.full((6, 9), 65535, np.uint16)])
    rgba = png([row.tobytes() for row in alpha.astype(">u2")], 9, 16, 6)
    np.testing.assert_array_equal(decode_image(rgba, "x"), IMAGE)
    np.testing.assert_array_equal(decode_mask(pil(IMAGE), "m", coding="color"), IMAGE)
    la = np.dstack([deep[..., 0], alpha[..., 3]])
    grey = png([row.tobytes() for row in la.astype(">u2")], 9, 16, 4)
    np.testing.assert_array_equal(decode_mask(grey, "m"), deep[..., 0])
    # one pixel per pass: an interlaced picture of 2x2
    four = (np.arange(12).reshape(2, 2, 3) * 5000).astype(">u2")
    passes = [four[:1, :1], four[:1, 1:], four[1:]]
    head = png([part.tobytes() for part in passes], 2, 16, 2, interlace=1)
    fixed = bytearray(head)
    fixed[20:24] = (2).to_bytes(4)
    fixed[8:33] = chunk(b"IHDR", bytes(fixed[16:29]))
    np.testing.assert_array_equal(decode_image(bytes(fixed), "x"), four >> 8)


def test_other_colour_spaces():
    cmyk = Image.fromarray(np.kron(IMAGE, np.ones((16, 16, 1), np.uint8))).convert("CMYK")
    expected = np.asarray(cmyk.convert("RGB")).astype(int)
    assert np.abs(decode_image(pil(cmyk, "JPEG", quality=100), "x") - expected).mean() < 3
    assert np.abs(decode_image(pil(cmyk, "TIFF"), "x") - expected).max() <= 1
    with pytest.raises(UserError, match="^x has a colour space that is not read .CIELab.; save it as RGB"):
        decode_image(pil(Image.fromarray(IMAGE, "LAB"), "TIFF"), "x")
