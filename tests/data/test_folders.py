"""Listing and pairing of files, sequence names, fingerprints, and the source that reads folders directly."""

import os

import numpy as np
import pytest

from segjax.data.folders import fingerprint, list_images, natural_key, pair_files, split_frame
from segjax.data.image_files import encode_png
from segjax.errors import UserError

RNG = np.random.default_rng(1)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(array))
    return path


def image(h=6, w=8):
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_listing_is_natural_deep_and_skips_what_is_no_image(tmp_path):
    for name in ("b/f10.png", "b/f9.png", "a.JPG", ".hidden.png", ".git/x.png", "notes.txt"):
        write(tmp_path / name, image())
    os.symlink(tmp_path, tmp_path / "b" / "circle")
    assert list(list_images(tmp_path)) == ["a", "b/f9", "b/f10"]
    with pytest.raises(UserError, match="does not exist"):
        list_images(tmp_path / "no")
    with pytest.raises(UserError, match="is a file"):
        list_images(tmp_path / "a.JPG")
    with pytest.raises(UserError, match="holds no image"):
        list_images(tmp_path / ".git", suffix="_y")
    write(tmp_path / "a.png", image())
    with pytest.raises(UserError, match="same name"):
        list_images(tmp_path)


def test_pairs_by_name_and_suffix(tmp_path):
    write(tmp_path / "x/city/0_left.png", image())
    write(tmp_path / "x/city/1_left.png", image())
    write(tmp_path / "y/city/0_ids.png", image())
    write(tmp_path / "y/city/0_color.png", image())
    write(tmp_path / "y/city/2_ids.png", image())
    pairs = pair_files(tmp_path / "x", tmp_path / "y", image_suffix="_left", mask_suffix="_ids")
    assert [key for key, _, _ in pairs.pairs] == ["city/0"]
    assert [key for key, _ in pairs.images_without_mask] == ["city/1"]
    assert [key for key, _ in pairs.masks_without_image] == ["city/2"]
    assert pairs.plain


def test_one_folder_for_both(tmp_path):
    write(tmp_path / "0.png", image())
    write(tmp_path / "0_mask.png", image())
    assert len(pair_files(tmp_path, tmp_path, mask_suffix="_mask").pairs) == 1
    assert pair_files(tmp_path, tmp_path, mask_suffix="_mask").plain
    assert not pair_files(tmp_path, tmp_path, mask_suffix="_mask").images_without_mask
    with pytest.raises(UserError, match="same folder"):
        pair_files(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "key, expected",
    [
        ("0001TP_006690", ("0001TP", 6690)),
        ("train/Seq05VD_f00030", ("train/Seq05VD", 30)),
        ("aachen/aachen_000001_000019", ("aachen/aachen_000001", 19)),
        ("day/00012", ("day", 12)),
        ("img12", ("img", 12)),
        ("day/photo", ("day", None)),
    ],
)
def test_sequence_and_frame(key, expected):
    assert split_frame(key) == expected


def test_natural_order():
    assert sorted(["a10", "a9", "a", "b1", "10", "9"], key=natural_key) == ["9", "10", "a", "a9", "a10", "b1"]


def test_fingerprint_sees_every_change(tmp_path):
    a, b = write(tmp_path / "a.png", image()), write(tmp_path / "b.png", image())
    first = fingerprint([a, b], root=tmp_path)
    assert fingerprint([b, a], root=tmp_path) == first
    assert fingerprint([a], root=tmp_path) != first
    status = a.stat()
    os.utime(a, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint([a, b], root=tmp_path) != first
    os.utime(a, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint([a, b], root=tmp_path) == first
    with open(a, "ab") as file:
        file.write(b"x")
    os.utime(a, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint([a, b], root=tmp_path) != first
