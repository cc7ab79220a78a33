"""TIFF: samples of every type and structure come back as they were written, which OpenCV alone does not do."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from segjax.data.image_files import decode_image, decode_mask, read_image
from segjax.errors import UserError
from tests.data.tiff_tools import tiff

RNG = np.random.default_rng(5)
IDS = RNG.integers(0, 16, (21, 35), dtype=np.uint8)
RGB = RNG.integers(0, 256, (21, 35, 3), dtype=np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_ids(order, big, bits):
    ids = (IDS.astype(int) % 2**bits).astype(np.uint16 if bits == 16 else np.uint8)
    for photometric, stored in ((1, ids), (0, (2**bits - 1 - ids).astype(ids.dtype))):
        data = tiff(stored, bits=bits, photometric=photometric, order=order, big=big)
        np.testing.assert_array_equal(decode_mask(data, "m"), ids)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(bits, big):
    index = (IDS.astype(int) % 2**bits).astype(np.uint8)
    colors = RNG.integers(0, 256, (3, 2**bits))
    data = tiff(index, bits=bits, photometric=3, colors=(colors * 257).ravel().tolist(), big=big)
    np.testing.assert_array_equal(decode_mask(data, "m"), index)
    np.testing.assert_array_equal(decode_mask(data, "m", coding="color"), colors.T[index])
    np.testing.assert_array_equal(decode_image(data, "m"), colors.T[index])


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "u4", "f2", "f4", "f8", "i8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_numbers_of_any_type_are_ids(kind, order):
    form = {"u": 1, "i": 2, "f": 3}[kind[0]]
    data = tiff(IDS.astype(kind), bits=8 * int(kind[1]), form=form, order=order)
    found = decode_mask(data, "m")
    np.testing.assert_array_equal(found, IDS)
    assert found.dtype == np.uint8
    with pytest.raises(UserError, match=r"^p has pixels of type .*; save it with 8 or 16 bits per channel$"):
        decode_image(data, "p")


def test_numbers_that_are_no_ids_are_refused_by_their_value():
    for value, form, kind, reason in (
        (-1, 2, "i2", "from -1 to 15"), (70000, 1, "u4", "to 70000"), (0.25, 3, "f4", "such as 0.25"),
        (np.nan, 3, "f4", "nan"),
    ):  # fmt: skip
        ids = IDS.astype(kind)
        ids[3, 4] = value
        with pytest.raises(UserError, match=reason) as error:
            decode_mask(tiff(ids, bits=ids.itemsize * 8, form=form), "m.tif")
        assert "m.tif" in str(error.value) and "8 or 16 bits" in str(error.value)
    wide = IDS.astype("i4") * 1000
    assert decode_mask(tiff(wide, bits=32, form=2), "m").dtype == np.uint16


@pytest.mark.parametrize(
    "options",
    [
        {}, {"planar": 2}, {"planar": 2, "rows": 5}, {"rows": 4}, {"tile": 32}, {"tile": 32, "planar": 2}, {"tile": 16},
        {"predictor": 2},
        {"big": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_of_any_structure(options, bits):
    image = RGB if bits == 8 else RGB.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(tiff(image, bits=bits, photometric=2, **options), "x"), RGB)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_compressions_without_loss(compression, predictor):
    if predictor == 2 and compression == "packbits":
        pytest.skip("has no predictor")
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 7, np.uint8)])
    for array, coding in ((IDS, "id"), (RGB, "color"), (rgba, "color")):
        data = _pillow(array, compression=compression, tiffinfo={317: predictor} if predictor == 2 else {})
        np.testing.assert_array_equal(decode_mask(data, "m", coding=coding), array if array.ndim == 2 else RGB)


@pytest.mark.parametrize(("compression", "name"), [("zstd", "Zstandard"), ("lzma", "LZMA")])
def test_compressions_that_opencv_lacks(compression, name):
    try:
        data = _pillow(IDS, compression=compression)
    except OSError:
        pytest.skip("this Pillow does not write it")
    for decode in (decode_image, decode_mask):
        with pytest.raises(UserError) as error:
            decode(data, "m.tif")
        assert str(error.value) == f"m.tif is a TIFF of a kind that is not read (compressed by {name}); save it as PNG"


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("shape", [(64, 96, 3), (64, 95), (63, 96), (64, 95, 4)])
def test_damaged_pixels_are_refused(compression, shape):
    """OpenCV itself shows them black."""
    small = RNG.integers(0, 256, (9, 12, *shape[2:]), dtype=np.uint8)
    array = np.kron(small, np.ones((8, 8, 1) if len(shape) == 3 else (8, 8), np.uint8))[: shape[0], : shape[1]]
    data = _pillow(array, compression=compression)
    start = 100 + data.index(b"\x80" if compression == "tiff_lzw" else b"x\x9c")
    refused = 0
    for number in range(40):
        broken = bytearray(data)
        broken[start + number : start + number + 8] = RNG.bytes(8)
        try:
            found = decode_mask(bytes(broken), "m", coding="color", transparent=(0, 0, 0))
        except UserError:
            refused += 1
        else:
            assert not (found == 0).all(-1).mean() > 0.3
    assert refused >= 30


def _pillow(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF", **options)
    return buffer.getvalue()


def test_colours_are_not_multiplied_by_alpha():
    alpha = RNG.integers(1, 256, RGB.shape[:2], dtype=np.uint8)
    for extra in (0, 1, 2):
        data = tiff(np.dstack([RGB, alpha]), photometric=2, extra=extra)
        np.testing.assert_array_equal(decode_image(data, "x"), RGB)
        np.testing.assert_array_equal(decode_mask(data, "x", coding="color"), RGB)


def test_holes():
    alpha = RNG.integers(0, 2, IDS.shape, dtype=np.uint8) * 255
    expected = np.where(alpha, IDS, 255)
    np.testing.assert_array_equal(decode_mask(tiff(np.dstack([IDS, alpha]), extra=2), "m", transparent=255), expected)
    # a fourth channel that is no alpha, such as infrared
    np.testing.assert_array_equal(decode_mask(tiff(np.dstack([IDS, alpha]), extra=0), "m", transparent=255), IDS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey", "palette", "colour", "float"])
def test_orientation(tmp_path, orientation, kind):
    expected = np.asarray(_turned(IDS, orientation))
    options = {
        "grey": {}, "palette": {"photometric": 3, "colors": list(range(0, 768 * 80, 80))},
        "float": {"bits": 32, "form": 3}, "colour": {"photometric": 2},
    }[kind]  # fmt: skip
    array = {"float": IDS.astype("f4"), "colour": np.dstack([IDS] * 3)}.get(kind, IDS)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(array, orientation=orientation, **options))
    np.testing.assert_array_equal(decode_mask(path.read_bytes(), "m"), expected)
    if kind == "colour":
        np.testing.assert_array_equal(read_image(path)[..., 1], expected)


def _turned(array, orientation):
    """The definition of EXIF: which sides of the picture row 0 and column 0 are."""
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    image = Image.fromarray(array)
    return image if orientation == 1 else image.transpose(methods[orientation])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(RNG.integers(0, 9, (5, 6), dtype=np.uint16), bits=12), "12 bits per channel"),
        (tiff(IDS, tile=16, bits=4), "tiles of 16x16 pixels, 4 bits each"),
        (tiff(IDS, compression=34887), "compressed by LERC"),
        (tiff(IDS, compression=34712), "compressed by JPEG 2000"),
        (tiff(IDS, compression=4711), "compressed by method 4711"),
        (tiff(RNG.integers(0, 9, (5, 6, 5), dtype=np.uint8), photometric=2), "5 channels"),
        (tiff(RNG.integers(0, 9, (5, 6, 3), dtype=np.uint8), photometric=1), "3 channels"),
        (tiff(RGB, photometric=8), "CIELab"),
        (tiff(RGB, photometric=32845), "LogLuv"),
        (tiff(np.dstack([RGB, IDS]).astype(np.uint16), bits=16, photometric=5), "CMYK of 16 bits"),
        (tiff(IDS, photometric=99), "number 99"),
        (tiff(IDS.astype("c8").view("f8").reshape(IDS.shape), bits=64, form=6), "complex"),
    ],
)
def test_what_is_not_read_is_refused_by_its_reason(data, reason):
    with pytest.raises(UserError, match=f"^x.tif (has|is) .*{reason}.*; save it"):
        decode_image(data, "x.tif")
    with pytest.raises(UserError, match="^x.tif (has|is) .*; save"):
        decode_mask(data, "x.tif")


def test_lossy_compression_is_refused_in_masks():
    grey = _pillow(np.kron(IDS, np.ones((8, 8), np.uint8)), compression="jpeg")
    with pytest.raises(UserError, match="m.tif is compressed with loss .JPEG in a TIFF.*PNG"):
        decode_mask(grey, "m.tif")
    assert decode_image(grey, "x").shape == (168, 280, 3)
    for number, name in ((34887, "LERC"), (34712, "JPEG 2000"), (50002, "JPEG XL"), (12345, "compression 12345")):
        with pytest.raises(UserError, match=f"m.tif is compressed with loss .{name} in a TIFF.*PNG"):
            decode_mask(tiff(IDS, compression=number), "m.tif")


def test_webp_in_a_tiff_may_be_lossless():
    def webp(lossless):
        buffer = io.BytesIO()
        Image.fromarray(RGB).save(buffer, "WEBP", lossless=lossless)
        return np.frombuffer(buffer.getvalue(), np.uint8)[None]

    for lossless in (True, False):
        strip = webp(lossless)
        data = tiff(strip, compression=50001)
        if lossless:
            with pytest.raises(UserError, match=r"not read \(compressed by WebP\)"):  # usual builds of OpenCV lack it
                decode_mask(data, "m.tif")
        else:
            with pytest.raises(UserError, match="loss .WebP in a TIFF"):
                decode_mask(data, "m.tif")


def test_cmyk_and_ycbcr_images():
    for mode, tolerance in (("CMYK", 1), ("YCbCr", 4)):
        buffer = io.BytesIO()
        Image.fromarray(RGB).convert(mode).save(buffer, "TIFF")
        assert np.abs(decode_image(buffer.getvalue(), "x").astype(int) - RGB).max() <= tolerance
        with pytest.raises(UserError, match=f"colour space {mode}"):
            decode_mask(buffer.getvalue(), "m")


def test_damaged_directories_are_refused():
    data = tiff(IDS)
    for place in range(0, 8):
        for value in (0, 255):
            broken = bytearray(data)
            broken[place] = value
            if bytes(broken) != data:
                with pytest.raises(UserError):
                    decode_mask(bytes(broken), "m")
    start = struct.unpack_from("<I", data, 4)[0]
    many = bytearray(data)
    struct.pack_into("<H", many, start, 65535)
    with pytest.raises(UserError, match="damaged"):
        decode_mask(bytes(many), "m")
