"""A built dataset holds what the folder itself shows: images and masks of every container are read by one reader."""

import numpy as np
import pytest

from segjax.data import FolderSource, LabelMap, open_source
from segjax.data.check import check_folder
from segjax.data.image_files import decode_image
from segjax.errors import UserError
from tests.data.image_tools import containers, palette, pil, turned

RNG = np.random.default_rng(11)
IMAGE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
IDS = np.kron(RNG.integers(0, 3, (4, 6), dtype=np.uint8), np.ones((10, 10), np.uint8))
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], np.uint8)


def options(root):
    LabelMap.identity(("a", "b", "c"), COLORS).save(root / "map.json")
    return {"images": str(root / "images"), "masks": str(root / "masks"), "label_map": str(root / "map.json")}


def fill(root):
    """Writes images of every container, and masks that are turned as they are; returns key -> label."""
    (root / "images").mkdir()
    (root / "masks").mkdir()
    labels = {}
    for number, (name, data) in enumerate(containers(IMAGE).items()):
        if decode_image(data, name).shape[:2] not in ((40, 60), (60, 40)):
            continue
        key = name.replace(".", "_")
        (root / f"images/{key}.{name.rpartition('.')[2]}").write_bytes(data)
        orientation = {"exif.png": 6, "exif.jpg": 8, "exif.webp": 3}.get(name, 1)
        exif = {"exif": turned(orientation)} if orientation > 1 else {}
        alpha = np.full(IDS.shape, 255, np.uint8)
        alpha[:7] = 0 if number % 3 == 2 else 255
        mask = {0: IDS, 1: palette(IDS, COLORS), 2: np.dstack([IDS] * 3 + [alpha])}[number % 3]
        (root / f"masks/{key}.png").write_bytes(pil(mask, **exif))
        labels[key] = np.rot90(np.where(alpha, IDS, 255), {6: -1, 8: 1, 3: 2}.get(orientation, 0))
    return labels


def test_built_and_read_alike(tmp_path, capfd):
    labels = fill(tmp_path)
    given = options(tmp_path)
    folder = FolderSource(given["images"], given["masks"], given["label_map"])
    assert check_folder(given["images"], given["masks"], given["label_map"]).ok
    by_name = {folder.names[i]: folder[i] for i in range(len(folder))}
    for split in ("train", "validation"):
        built = open_source("segmentation_folder", split, data_dir=tmp_path / "data", builder_options=given)
        for i, size in enumerate(built.sizes.tolist()):
            record = built[i]
            expected = by_name.pop(record.name)
            np.testing.assert_array_equal(record.image, expected.image)
            np.testing.assert_array_equal(record.label, expected.label)
            np.testing.assert_array_equal(record.label, labels[record.name])
            assert list(record.image.shape[:2]) == size == list(folder.sizes[folder.names.index(record.name)])
    assert not by_name
    printed = [
        line for line in capfd.readouterr().err.splitlines() if not line.startswith(("Building dataset", "Splits:"))
    ]
    assert not [line for line in printed if "records" not in line], printed


@pytest.mark.parametrize("name", ["lossy.webp", "jpeg.tif", "plain.jp2", "plain.jpg"])
def test_lossy_masks_stop_the_build(tmp_path, name):
    fill(tmp_path)
    given = options(tmp_path)
    (tmp_path / "masks/plain_png.png").write_bytes(containers(IMAGE)[name])
    with pytest.raises(UserError, match="plain_png.png (is|may be) compressed with loss .*save masks as PNG"):
        for split in ("train", "validation"):
            open_source("segmentation_folder", split, data_dir=tmp_path / "data", builder_options=given)
