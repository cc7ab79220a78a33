"""The source that reads folders directly."""

import pickle

import numpy as np
import pytest

from segjax.data import FolderSource, LabelMap, Source
from segjax.data.image_files import encode_png
from segjax.errors import UserError

RNG = np.random.default_rng(1)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(array))
    return path


def image(h=6, w=8):
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def folders(tmp_path, n=3):
    images, masks = [], []
    for i in range(n):
        images.append(image(6 + i, 8))
        masks.append(RNG.integers(0, 12, (6 + i, 8), dtype=np.uint8))
        write(tmp_path / f"images/s_{i}.png", images[-1])
        write(tmp_path / f"masks/s_{i}.png", masks[-1])
    return images, masks


def test_folder_source_reads_pairs_once_mapped(tmp_path):
    images, masks = folders(tmp_path)
    source = FolderSource(tmp_path / "images", tmp_path / "masks", "camvid")
    assert isinstance(source, Source)
    assert len(source) == 3 and source.num_classes == 11 and source.palette.shape == (11, 3)
    assert source.names == ["s_0", "s_1", "s_2"]
    np.testing.assert_array_equal(source.sizes, [[6, 8], [7, 8], [8, 8]])
    for i, record in enumerate(source[i] for i in range(3)):
        np.testing.assert_array_equal(record.image, images[i])
        np.testing.assert_array_equal(record.label, np.where(masks[i] == 11, 255, masks[i]))
        assert (record.name, record.sequence, record.frame) == (f"s_{i}", "s", i)
        np.testing.assert_array_equal(source.label(i), record.label)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[2].label, source[2].label)


def test_folder_source_without_masks(tmp_path):
    folders(tmp_path)
    lonely = FolderSource(tmp_path / "images")
    assert lonely[1].label is None and lonely.label(1) is None
    one = FolderSource(tmp_path / "images" / "s_1.png")
    assert len(one) == 1 and one.num_classes == 0 and one.class_names == ()
    several = FolderSource([tmp_path / "images" / "s_1.png", tmp_path / "masks" / "s_1.png"])
    assert len(set(several.names)) == 2
    with pytest.raises(UserError, match="does not exist"):
        FolderSource(tmp_path / "no.png")
    with pytest.raises(UserError, match="not an image"):
        FolderSource(tmp_path / "no.mp4")


def test_folder_source_names_what_is_wrong(tmp_path):
    folders(tmp_path)
    with pytest.raises(UserError, match="label map"):
        FolderSource(tmp_path / "images", tmp_path / "masks")
    write(tmp_path / "masks/s_0.png", np.zeros((6, 9), np.uint8))
    write(tmp_path / "masks/s_1.png", np.full((7, 8), 77, np.uint8))
    (tmp_path / "images/s_2.png").write_bytes((tmp_path / "images/s_2.png").read_bytes()[:-30])
    source = FolderSource(tmp_path / "images", tmp_path / "masks", LabelMap.open("camvid"))
    with pytest.raises(UserError, match=r"s_0\.png is 9x6 but its image .* is 8x6"):
        source[0]
    with pytest.raises(UserError, match=r"masks/s_1\.png holds ids 77"):
        source[1]
    with pytest.raises(UserError, match=r"images/s_2\.png is truncated"):
        source[2]
    # labels alone are checked as well, against the header of their image
    with pytest.raises(UserError, match=r"s_0\.png is 9x6 but its image .* is 8x6"):
        source.label(0)
    with pytest.raises(UserError, match=r"masks/s_1\.png holds ids 77"):
        source.label(1)
    assert source.label(2).shape == (8, 8)
    (tmp_path / "masks/s_2.png").unlink()
    with pytest.raises(UserError, match="1 images in .* have no mask"):
        FolderSource(tmp_path / "images", tmp_path / "masks", "camvid")
