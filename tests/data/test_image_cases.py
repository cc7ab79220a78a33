"""The files of shared/cases, which people's tools wrote: each is read right, or refused by its true reason."""

import re

import numpy as np
import pytest

from segjax.data.image_files import decode_image, image_size, read_image, read_mask
from segjax.errors import UserError

IDS = np.zeros((40, 60), np.uint8)  # drawn by hand: road above, a wall and a car below
IDS[:20], IDS[20:, 30:], IDS[35:, 50:] = 1, 2, 3
ONE = (IDS > 0).astype(np.uint8)
VOC = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], np.uint8)
COLOR = VOC[IDS]
TURNED = np.rot90(IDS, -1)  # orientation 6: the picture is to be turned by 90 degrees clockwise
HOLES = np.where(IDS == 0, 255, IDS)
LOSS = r"(is|may be) compressed with loss .*PNG"
COLORS = "holds colours, not ids"

PLAIN = [
    "g.bmp", "g.tif", "g.webp", "g2.png", "g4.png", "la.png", "la.tif", "rgba.png", "pal.bmp", "pal.png", "pal.tif",
    "pal_big.tif", "pal_bits2.png", "pal_lzw.tif", "pal_trns.png", "pal_trns_bytes.png", "i8.tif", "i32.tif", "f32.tif",
]  # fmt: skip
MASKS = {  # name -> ids, or the reason why they are not read
    **dict.fromkeys(PLAIN, IDS),
    **dict.fromkeys(["g1.png", "one.png", "one.bmp", "one.tif", "one_g4.tif", "f32b.tif"], ONE),
    **dict.fromkeys(["exif6.png", "exif6.tif", "palexif6.png"], TURNED),
    **dict.fromkeys(["u16.png", "u16c.png"], IDS.astype(np.uint16) * 300),
    **dict.fromkeys(["col_lossy.webp", "rgba_lossy.webp", "jpgcontent.png"], LOSS),
    **dict.fromkeys(["col_rgba.png", "red_only.png"], COLORS),
    "rgba_holes.png": HOLES,
}
DEEP = "(uint16|int8|int32|float32) values; colour-coded masks need 8 bits per channel"
COLOR_MASKS = {
    **{name: np.dstack([IDS] * 3) for name in ("g.bmp", "g.tif", "g.webp", "la.png", "la.tif", "rgba.png")},
    "g2.png": np.dstack([IDS] * 3) * 85,
    "g4.png": np.dstack([IDS] * 3) * 17,
    **dict.fromkeys(["g1.png", "one.png", "one.bmp", "one.tif", "one_g4.tif"], np.dstack([ONE] * 3) * 255),
    **dict.fromkeys((name for name in PLAIN if name.startswith("pal")), COLOR),
    "col_rgba.png": COLOR,
    "red_only.png": np.dstack([IDS, 0 * IDS, 0 * IDS]),
    "rgba_holes.png": np.dstack([IDS] * 3),
    "palexif6.png": VOC[TURNED],
    **dict.fromkeys(["exif6.png", "exif6.tif"], np.dstack([TURNED] * 3)),
    **dict.fromkeys(["u16.png", "u16c.png", "i8.tif", "i32.tif", "f32.tif", "f32b.tif"], DEEP),
    **dict.fromkeys(["col_lossy.webp", "rgba_lossy.webp", "jpgcontent.png"], LOSS),
}

PICTURE = np.zeros((40, 60, 3), np.uint8)
PICTURE[:20, :30], PICTURE[:20, 30:], PICTURE[20:, 30:] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
TWELVE = "seems to use 12 of its 16 bits .* multiply its values by 16"
FLOAT = "has pixels of type float32; save it with 8 or 16 bits per channel"
ORIENTED = {3: np.rot90(PICTURE, 2), 6: np.rot90(PICTURE, -1), 8: np.rot90(PICTURE, 1)}
IMAGES = {
    **{f"o{o}.{suffix}": ORIENTED[o] for o in ORIENTED for suffix in ("png", "jpeg", "tiff", "webp")},
    **dict.fromkeys(["anim.png", "cmyk.jpg", "rgba0.png", "ycc.tif"], PICTURE),
    "multi.tif": PICTURE[..., ::-1],
    **dict.fromkeys(["f32.tif", "f32big.tif", "f32g.tif"], FLOAT),
    **dict.fromkeys(["rgb12.png", "rgb12.tif"], TWELVE),
    "lab.tif": "has a colour space that is not read .CIELab.; save it as RGB",
    **dict.fromkeys(["one.png", "one.tif"], None),  # a dithered picture: compared with each other
}
LOSSY = {"cmyk.jpg", "ycc.tif", "o3.jpeg", "o6.jpeg", "o8.jpeg"}


def test_no_file_is_missing_here(cases):
    assert {path.name for path in (cases / "masks").iterdir()} == set(MASKS) == set(COLOR_MASKS)
    assert {path.name for path in (cases / "images").iterdir()} == set(IMAGES)


@pytest.mark.parametrize("coding", ["id", "color"])
@pytest.mark.parametrize("name", sorted(MASKS))
def test_mask(cases, name, coding, capfd):
    expected = (MASKS if coding == "id" else COLOR_MASKS)[name]
    file = cases / "masks" / name
    transparent = 255 if coding == "id" else (0, 0, 0)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=f"^{re.escape(str(file))} .*{expected}"):
            read_mask(file, coding=coding, transparent=transparent)
    else:
        found = read_mask(file, coding=coding, transparent=transparent)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype and found.flags.c_contiguous
        assert image_size(file) == expected.shape[:2]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_image(cases, name, capfd, caplog):
    expected, file = IMAGES[name], cases / "images" / name
    if isinstance(expected, str):
        with pytest.raises(UserError, match=f"^{re.escape(str(file))} .*{expected}"):
            read_image(file)
    elif expected is not None:
        found = read_image(file)
        assert found.dtype == np.uint8 and found.flags.c_contiguous and found.shape == expected.shape
        error = np.abs(found.astype(int) - expected)
        if name in LOSSY:  # they ring at the borders of the four fields
            assert np.median(error) <= 1 and error.mean() < 5
        else:
            assert error.max() == 0
        assert image_size(file) == expected.shape[:2]
    assert capfd.readouterr().err == ""


def test_dithered_image_of_one_bit(cases):
    found = [read_image(cases / "images" / name) for name in ("one.png", "one.tif")]
    np.testing.assert_array_equal(*found)
    assert set(np.unique(found[0])) == {0, 255} and (found[0][..., 0] == found[0][..., 2]).all()
    grey = PICTURE @ [0.299, 0.587, 0.114]
    for field in (np.s_[:20, :30], np.s_[:20, 30:], np.s_[20:, :30], np.s_[20:, 30:]):
        assert abs(found[0][field].mean() - grey[field].mean()) < 10


def test_transparent_pixels_need_a_label(cases):
    with pytest.raises(UserError, match="rgba_holes.png has 600 transparent pixels.*train_id 255"):
        read_mask(cases / "masks/rgba_holes.png")


def test_first_picture_is_said(cases, caplog, monkeypatch):
    from segjax.data import image_files

    monkeypatch.setattr(image_files, "_said", set())
    for name in ("anim.png", "multi.tif", "rgba0.png", "anim.png"):
        decode_image((cases / "images" / name).read_bytes(), name)
    assert [record.message for record in caplog.records] == [
        "there are animations or files of several pages, whose first picture is read, such as anim.png",
        "there are fully transparent images, whose colours are read all the same, such as rgba0.png",
    ]
