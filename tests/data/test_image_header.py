"""Kinds, sizes and the one limit, which hold for every reader."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from segjax.data import FolderSource
from segjax.data.check import check_folder
from segjax.data.image_files import IMAGE_SUFFIXES, MAX_PIXELS, decode_image, decode_mask, image_size, read_image
from segjax.errors import UserError
from segjax.media.clips import open_clips
from tests.data.image_tools import AVIF, chunk, containers, pil
from tests.data.tiff_tools import tiff

IMAGE = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
FILES = containers(IMAGE)


@pytest.mark.parametrize("name", sorted(FILES))
def test_size_in_the_header_is_that_of_the_picture(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    assert image_size(path) == read_image(path).shape[:2]
    assert path.suffix in IMAGE_SUFFIXES


def enlarged(name: str, w: int = 20000, h: int = 10000) -> bytes:
    """Returns a small file whose header declares w x h pixels."""
    data = bytearray(FILES[name])
    if name.endswith(".png"):
        data[8:33] = chunk(b"IHDR", struct.pack(">II", w, h) + data[24:29])
    elif name.endswith(".jpg"):
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, h, w)
    elif name.endswith(".gif"):
        struct.pack_into("<HH", data, 6, w, h)
    elif name.endswith(".bmp"):
        struct.pack_into("<ii", data, 18, w, h)
    elif name.endswith(".tga"):
        struct.pack_into("<HH", data, 12, w, h)
    elif name.endswith(".ppm"):
        data = data.replace(b"60 40", b"20000 10000", 1)
    elif name.endswith(".jp2"):
        struct.pack_into(">II", data, data.index(b"ihdr") + 4, h, w)
    elif name.endswith(".webp"):
        return (
            b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<IBHB", 10, 0, 0, 0) + b"\x1f\x4e\0\x0f\x27\0"
        )
    return bytes(data)


LARGE = {name: enlarged(name) for name in FILES if name.startswith("plain.") and name[6:] not in ("tif", "avif", "pbm")}
LARGE["plain.tif"] = tiff(np.zeros((1, 1), np.uint8)).replace(
    struct.pack("<HHII", 256, 4, 1, 1), struct.pack("<HHII", 256, 4, 1, 20000)
).replace(struct.pack("<HHII", 257, 4, 1, 1), struct.pack("<HHII", 257, 4, 1, 10000))  # fmt: skip


@pytest.mark.parametrize("name", sorted(LARGE))
def test_one_limit_and_one_sentence_everywhere(tmp_path, name, capfd):
    """Check, build, train and predict use these functions."""
    folder = tmp_path / "images"
    folder.mkdir()
    path = folder / name
    path.write_bytes(LARGE[name])
    readers = {
        "image": lambda: read_image(path),
        "ids": lambda: decode_mask(path.read_bytes(), str(path)),
        "size": lambda: image_size(path),
        "sizes": lambda: FolderSource(folder).sizes,
        "record": lambda: FolderSource(folder)[0],
    }
    for reader in readers.values():
        with pytest.raises(UserError) as error:
            reader()
        assert str(error.value) == (
            f"{path} has 200 megapixels, but at most 179 are read; cut it into tiles or reduce it"
        )
    problems = []
    (clip,) = open_clips(path)
    assert not list(clip.frames(on_error=problems.append)) and "200 megapixels" in str(problems[0])
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "plain.png").write_bytes(pil(IMAGE[..., 0] // 128))
    report = check_folder(folder, masks)
    assert ["200 megapixels" in problem.message for problem in report.problems] == [True]
    assert capfd.readouterr().err == ""


def test_large_files_below_the_limit_bring_no_warning(tmp_path):
    """Pillow warns from half of the limit on."""
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    for name in ("plain.jpg", "plain.jp2", "plain.gif"):
        (tmp_path / name).write_bytes(enlarged(name, 10000))
        with warnings.catch_warnings(record=True) as caught:
            assert image_size(tmp_path / name) == (10000, 10000)
        assert not caught


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, not an image; run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "a text file (HTML, SVG or XML), not an image; download the image itself"),
        (b"%PDF-1.7", "a PDF file; save its picture as PNG or JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo, which is not read; save it as JPEG or PNG"),
        (b"\0\0\0\x20ftypisom\0\0\0\0isomiso2", "a video or of an unknown kind, not an image"),
        (b"PK\3\4zip", "a ZIP archive; unpack it"),
        (b"hello, this is a text", "damaged or not an image; copy or download it again"),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path, data, reason):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for read in (read_image, image_size):
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value).startswith(f"{path} is {reason}")


def test_avif_with_an_older_pillow(monkeypatch):
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    monkeypatch.setattr(Image, "init", lambda: True)
    with pytest.raises(UserError, match="^x is an AVIF file, which needs Pillow 11.3; run `pip install -U pillow`$"):
        decode_image(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(99), "x")


@pytest.mark.parametrize("suffix", sorted(set(IMAGE_SUFFIXES) - (set() if AVIF else {".avif"})))
def test_every_suffix_is_read(tmp_path, suffix):
    """The suffixes are those of kinds of files that are read, so that a folder of them is not refused file by file."""
    name = {".j2k": "jpeg2000", ".dib": "dib", ".apng": "png", ".jfif": "jpeg", ".jpe": "jpeg", ".pnm": "ppm"}.get(
        suffix
    )
    kind = name or Image.registered_extensions()[suffix]
    buffer = io.BytesIO()
    picture = Image.fromarray(IMAGE).quantize(8) if suffix == ".gif" else Image.fromarray(IMAGE)
    (picture.convert("1") if suffix == ".pbm" else picture).save(buffer, {"dib": "BMP"}.get(kind, kind))
    (tmp_path / f"a{suffix}").write_bytes(buffer.getvalue())
    source = FolderSource(tmp_path)
    assert source[0].image.shape == (40, 60, 3) and source.sizes.tolist() == [[40, 60]]
    assert decode_image(buffer.getvalue(), f"a{suffix}").shape == (40, 60, 3)
