"""The check before training: every planted fault is found, and the proposed map works."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segjax.data import CLASSES, FolderSource, LabelMap
from segjax.data.check import check_folder
from segjax.data.image_files import encode_png
from segjax.data.propose import bit_color
from segjax.errors import UserError

RNG = np.random.default_rng(2)
COLORS = CLASSES["camvid"].palette


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else encode_png(data))


def image(h=20, w=30):
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def fill(root, masks):
    for i, mask in enumerate(masks):
        write(root / f"images/{i}.png", image(*mask.shape[:2]))
        write(root / f"masks/{i}.png", mask)
    return root / "images", root / "masks"


def printed(report):
    console = Console(file=io.StringIO(), width=120, highlight=False, soft_wrap=True)
    report.print(console)
    return console.file.getvalue()


def test_clean_folder_with_a_map(tmp_path):
    masks = [RNG.integers(0, 10, (20, 30), dtype=np.uint8) for _ in range(5)]
    masks[0][0, :3] = 11
    report = check_folder(*fill(tmp_path, masks), "camvid", tmp_path / "out")
    assert report.ok and report.exit_code == 0 and not report.proposed
    counts = np.bincount(np.concatenate(masks).ravel(), minlength=12)
    np.testing.assert_array_equal(report.pixels, counts[:11])
    assert report.ignored_pixels == 3
    np.testing.assert_allclose(report.shares, counts[:11] / counts[:11].sum())
    assert report.absent == ["bicyclist"] and report.images[0] == 5
    assert report.sizes == {(20, 30): 5}
    assert report.raw_pixels == {i: n for i, n in enumerate(counts.tolist()) if n}
    assert LabelMap.load(report.files[0]) == LabelMap.open("camvid")
    text = printed(report)
    assert "no problem found" in text and "absent" in text and "bicyclist" in text


def test_every_fault_is_listed_once(tmp_path):
    masks = [RNG.integers(0, 11, (20, 30), dtype=np.uint8) for _ in range(8)]
    masks[1][0, :4] = 40
    masks[1][1, 0] = 50
    masks[2][:] = 11
    images, folder = fill(tmp_path, masks)
    write(folder / "3.png", np.zeros((20, 31), np.uint8))
    (images / "4.png").write_bytes((images / "4.png").read_bytes()[:-40])
    (folder / "5.png").write_bytes(b"")
    (folder / "6.png").unlink()
    (images / "7.png").unlink()
    report = check_folder(images, folder, "camvid")
    kinds = [problem.kind for problem in report.problems]
    assert sorted(kinds) == ["empty", "size", "unpaired", "unpaired", "unreadable", "unreadable", "value"]
    assert report.exit_code == 1
    text = printed(report)
    for part in (
        "1.png holds ids 40, 50 (5 pixels)",
        "2.png holds only ids that are ignored",
        "3.png is 31x20 but its image",
        "images/4.png is truncated",
        "masks/5.png is empty",
        "images/6.png has no mask",
        "masks/7.png has no image",
        "7 problems to correct",
    ):
        assert text.count(part) == 1, part


def test_proposed_id_map_is_ready(tmp_path):
    masks = [RNG.choice([0, 5, 9, 255], (20, 30)).astype(np.uint8) for _ in range(3)]
    images, folder = fill(tmp_path, masks)
    report = check_folder(images, folder, output=tmp_path / "out")
    assert report.ok and report.proposed
    source = FolderSource(images, folder, tmp_path / "out" / "label_map.json")
    assert source.num_classes == 3 and source.class_names == ("class 0", "class 1", "class 2")
    expected = np.full(256, 255)
    expected[[0, 5, 9]] = range(3)
    np.testing.assert_array_equal(source[1].label, expected[masks[1]])
    for sample, mask in zip(report.samples, masks):
        np.testing.assert_array_equal(sample.label, expected[mask])


def test_palette_gives_the_colours(tmp_path):
    mask = RNG.integers(0, 3, (20, 30), dtype=np.uint8)
    shown = Image.fromarray(mask).convert("P")
    shown.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    images, folder = fill(tmp_path, [mask])
    write(folder / "0.png", buffer.getvalue())
    report = check_folder(images, folder)
    assert report.label_map.coding == "id"
    assert report.label_map.palette.tolist() == [[10, 20, 30], [200, 0, 0], [0, 200, 0]]


def test_proposed_colour_map_takes_known_names(tmp_path):
    index = RNG.integers(0, 5, (3, 20, 30))
    masks = list(COLORS[index])
    for mask in masks:
        mask[0, 0] = 0  # void
    images, folder = fill(tmp_path, masks)
    report = check_folder(images, folder, output=tmp_path / "out")
    assert report.ok and report.label_map.coding == "color"
    assert sorted(report.label_map.class_names) == sorted(CLASSES["camvid"].names[:5])
    source = FolderSource(images, folder, tmp_path / "out" / "label_map.json")
    label = source[2].label
    assert label[0, 0] == 255
    names = np.array(source.class_names)[label[1:]]
    np.testing.assert_array_equal(names, np.array(CLASSES["camvid"].names)[index[2][1:]])
    np.testing.assert_array_equal(report.samples[2].label, label)
    assert "void" not in source.class_names and printed(report).count("128,64,128") == 1


def test_instance_ids_are_no_classes(tmp_path):
    masks = [RNG.integers(0, 60000, (100, 100)).astype(np.uint16) for _ in range(2)]
    report = check_folder(*fill(tmp_path, masks), output=tmp_path / "out")
    assert report.label_map is None and not report.files and len(report.raw_pixels) <= 4096
    assert [p.kind for p in report.problems] == ["value"]
    assert "more than 4096 different ids" in printed(report)


def test_lossy_masks_are_reported(tmp_path):
    images, folder = fill(tmp_path, [RNG.integers(0, 5, (20, 30), dtype=np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(image()).save(buffer, "JPEG")
    write(folder / "0.jpg", buffer.getvalue())
    (folder / "0.png").unlink()
    report = check_folder(images, folder)
    assert [p.kind for p in report.problems] == ["unreadable"]
    assert "loss" in report.problems[0].message


def test_samples_are_few_and_small(tmp_path):
    masks = [np.full((40, 1000), 1, np.uint8) for _ in range(12)]
    report = check_folder(*fill(tmp_path, masks), "camvid", num_samples=4)
    assert [s.name for s in report.samples] == ["0", "3", "7", "11"]
    assert all(s.image.shape == (26, 640, 3) and s.label.shape == (26, 640) for s in report.samples)


def test_nothing_to_check(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        check_folder(tmp_path / "a", tmp_path / "b")


def test_bit_colors_are_those_of_pascal_voc():
    assert [bit_color(i) for i in (0, 1, 2, 3, 8, 15, 20)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (64, 0, 0),
        (192, 128, 128),
        (0, 64, 128),
    ]
    assert len({bit_color(i) for i in range(256)}) == 256


def test_real_faults_of_a_published_set(kitti5):
    report = check_folder(kitti5 / "image_2", kitti5 / "semantic", "cityscapes")
    assert report.num_pairs == 5 and not [p for p in report.problems if p.kind not in ("size",)]
    assert report.shares[0] > 0.1  # road


def test_camvid_is_clean(camvid):
    report = check_folder(camvid / "val", camvid / "valannot", "camvid")
    assert report.ok and report.num_pairs == 101 and report.sizes == {(360, 480): 101} and not report.absent
