"""Masks whose values cannot be classes are found, and those of real datasets are not doubted."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segjax.data import CLASSES, LabelMap
from segjax.data.check import check_folder
from segjax.data.image_files import read_mask
from segjax.data.judge import count_blocks
from tests.data.image_tools import palette, pil
from tests.data.test_check import fill, image, printed, write

PALETTE = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]], np.uint8)


def scenes(values, count=3, side=96):
    """Masks of discs and a bar on a background, with values[0] behind."""
    rng = np.random.default_rng(len(values))
    masks = []
    for _ in range(count):
        mask = np.full((side, side), values[0], np.uint8)
        for value in values[1:]:
            x, y, radius = (int(v) for v in rng.integers((15, 15, 8), (80, 80, 14)))
            cv2.circle(mask, (x, y), radius, int(value), -1)
        mask[:, 60:62] = values[-1]  # a pole of two pixels
        masks.append(mask)
    return masks


def smooth(kind, mask):
    match kind:
        case "jpeg":
            return cv2.imdecode(cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_UNCHANGED)
        case "blur":
            return cv2.GaussianBlur(mask, (5, 5), 0)
        case "enlarged":
            return cv2.resize(mask, (240, 180))
        case "reduced":
            return cv2.resize(mask, (72, 72), interpolation=cv2.INTER_AREA)


def kinds(report):
    return sorted(problem.kind for problem in report.problems)


def test_count_blocks():
    mask = np.array([[1, 1, 1, 2], [1, 1, 2, 2], [3, 3, 2, 2]])
    assert sorted(count_blocks(mask)) == [1, 2]


@pytest.mark.parametrize("values", [[0, 255], [0, 1], [1, 2], [7, 255], [0, 128]])
def test_two_values_are_two_classes(tmp_path, values):
    report = check_folder(*fill(tmp_path, scenes(values)), output=tmp_path / "out")
    assert report.ok and report.label_map.num_classes == 2 and report.ignored_pixels == 0
    assert sorted(x.id for x in report.label_map.table.labels) == values
    assert ("id 255 is a class" in printed(report)) == (255 in values)


def test_one_colour_on_black_is_two_classes(tmp_path):
    masks = [np.dstack([mask, 0 * mask, 0 * mask]) for mask in scenes([0, 200])]
    report = check_folder(*fill(tmp_path, masks))
    assert report.ok and report.label_map.coding == "color" and report.label_map.num_classes == 2
    assert [x.color for x in report.label_map.table.labels] == [(0, 0, 0), (200, 0, 0)]
    assert "black is a class" in printed(report)


def test_masks_of_one_bit_are_two_classes(tmp_path):
    images, folder = fill(tmp_path, scenes([0, 1]))
    for path in folder.iterdir():
        Image.open(path).point(lambda v: v * 255).convert("1").save(path)
    report = check_folder(images, folder)
    assert report.ok and [x.id for x in report.label_map.table.labels] == [0, 1]


@pytest.mark.parametrize(("value", "coding"), [(0, "id"), (3, "id"), ((9, 8, 7), "color")])
def test_one_value_is_no_training(tmp_path, value, coding):
    mask = np.full((20, 30) if coding == "id" else (20, 30, 3), value, np.uint8)
    report = check_folder(*fill(tmp_path, [mask] * 3))
    assert report.exit_code == 1 and kinds(report) == ["classes"] and report.label_map.num_classes == 1
    assert f"all labelled pixels have the same value {value}" in printed(report)


def test_masks_that_are_ignored_everywhere(tmp_path):
    """The table and the sentences agree: there is no class."""
    for value, shape in ((255, (20, 30)), (0, (20, 30, 3))):
        folder = tmp_path / str(value)
        report = check_folder(*fill(folder, [np.full(shape, value, np.uint8)] * 3), output=folder / "out")
        if value:
            assert report.label_map is None and kinds(report) == ["classes", "empty", "empty", "empty"]
            text = printed(report)
            assert "all masks hold only id 255" in text and "class 0" not in text
            assert text.count("holds only ids that are ignored") == 3 and not report.files
        else:  # three equal channels are ids
            assert kinds(report) == ["classes"] and "same value 0" in printed(report)


def test_only_255_is_no_emptiness_if_it_is_a_class(tmp_path):
    masks = [*scenes([0, 255]), np.full((20, 30), 255, np.uint8), np.zeros((20, 30), np.uint8)]
    assert check_folder(*fill(tmp_path, masks)).ok
    more = [*scenes([0, 1, 255]), np.full((20, 30), 255, np.uint8)]
    report = check_folder(*fill(tmp_path / "more", more))
    assert kinds(report) == ["empty"] and "3.png holds only ids that are ignored" in printed(report)


def test_holes_are_ignored_and_no_second_class(tmp_path):
    images, folder = fill(tmp_path, scenes([1, 2]))
    for path in folder.iterdir():
        mask = read_mask(path)
        alpha = np.full(mask.shape, 255, np.uint8)
        alpha[:5] = 0
        write(path, pil(np.dstack([mask] * 3 + [alpha])))
    report = check_folder(images, folder, output=tmp_path / "out")
    assert report.ok and report.label_map.num_classes == 2 and report.ignored_pixels == 3 * 5 * 96
    assert "masks with transparent pixels, which count as not labelled: 3 (" in printed(report)
    assert check_folder(images, folder, tmp_path / "out/label_map.json").ok
    other = check_folder(images, folder, LabelMap.open("camvid"))  # its ignored id is 11
    assert other.ok and other.ignored_pixels == 3 * 5 * 96


@pytest.mark.parametrize("kind", ["jpeg", "blur", "enlarged", "reduced"])
@pytest.mark.parametrize("values", [[0, 255], [0, 60, 120, 240], [10, 90]])
def test_smooth_edges_are_a_problem(tmp_path, kind, values):
    masks = [smooth(kind, mask) for mask in scenes(values)]
    report = check_folder(*fill(tmp_path, masks))
    assert report.exit_code == 1 and kinds(report)[0] in ("classes", "value")
    text = printed(report)
    assert "smooth edges" in text and "no problem found" not in text


@pytest.mark.parametrize("kind", ["jpeg", "blur", "enlarged", "reduced"])
def test_smooth_edges_of_colours_are_a_problem(tmp_path, kind):
    report = check_folder(*fill(tmp_path, [smooth(kind, PALETTE[mask]) for mask in scenes([0, 1, 2], count=2)]))
    assert report.exit_code == 1 and "smooth edges" in printed(report)


@pytest.mark.parametrize("number", [2, 3, 5, 11, 40, 150])
def test_many_small_classes_are_not_doubted(tmp_path, number):
    values = list(range(number))
    report = check_folder(*fill(tmp_path, scenes(values, count=8, side=96)))
    assert report.ok and report.label_map.num_classes > number // 2


def test_masks_reduced_by_the_nearest_pixel_are_not_doubted(camvid, tmp_path):
    masks = [
        cv2.resize(read_mask(path), (160, 120), interpolation=cv2.INTER_NEAREST)
        for path in sorted((camvid / "valannot").iterdir())[:10]
    ]
    assert check_folder(*fill(tmp_path, masks)).ok


@pytest.mark.parametrize("kind", ["jpeg", "blur", "enlarged", "reduced"])
def test_smoothed_masks_of_a_real_dataset(camvid, tmp_path, kind):
    masks = [smooth(kind, read_mask(path) * 20) for path in sorted((camvid / "valannot").iterdir())[:5]]
    report = check_folder(*fill(tmp_path, masks))
    assert report.exit_code == 1 and "smooth edges" in printed(report)


def test_ones_and_255_in_other_masks(tmp_path):
    masks = [*scenes([0, 1], count=2), *scenes([0, 255], count=2)]
    report = check_folder(*fill(tmp_path / "a", masks))
    assert kinds(report) == ["classes"] and "some masks write the class as id 1" in printed(report)
    assert check_folder(*fill(tmp_path / "b", [*masks, *scenes([0, 1, 255], count=1)])).ok
    border = LabelMap.identity(("background", "thing"), PALETTE[:2])
    assert check_folder(*fill(tmp_path / "c", masks), border).ok


def test_a_given_map_of_one_class(tmp_path):
    one = LabelMap.identity(("road",), PALETTE[:1])
    report = check_folder(*fill(tmp_path, scenes([0, 255])), one)
    assert kinds(report) == ["classes"] and "one class only ('road')" in printed(report)


@pytest.mark.parametrize(
    ("table", "count", "known"),
    [("cityscapes", 2, False), ("cityscapes", 3, False), ("cityscapes", 8, False), ("cityscapes", 19, True),
     ("camvid", 3, False), ("camvid", 11, True), ("voc2012", 5, False), ("voc2012", 21, True)],
)  # fmt: skip
def test_few_colours_of_a_table_are_not_the_table(tmp_path, table, count, known):
    colors = CLASSES[table].palette[:count]
    rng = np.random.default_rng(1)
    masks = [colors[np.kron(rng.permutation(count)[None], np.ones((20, 8), int))] for _ in range(2)]
    report = check_folder(*fill(tmp_path, masks))
    names = set(report.label_map.class_names)
    assert (names <= set(CLASSES[table].names)) == known
    assert all(name.startswith("class ") for name in names) != known
    assert ("all colours are those of" in printed(report)) == known


def test_first_pictures_are_noted(tmp_path):
    images, folder = fill(tmp_path, scenes([0, 1, 2]))
    write(images / "0.png", pil(image(96, 96), save_all=True, append_images=[Image.fromarray(image(96, 96))]))
    buffer = io.BytesIO()
    moving = palette(scenes([0, 1, 2])[1], PALETTE)
    moving.save(buffer, "GIF", save_all=True, append_images=[palette(scenes([2, 1, 0])[1], PALETTE)])
    (folder / "1.png").unlink()
    write(folder / "1.gif", buffer.getvalue())
    text = printed(check_folder(images, folder))
    assert "animations or files of several pages, whose first picture is read: 2 (" in text
