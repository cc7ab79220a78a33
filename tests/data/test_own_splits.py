"""Divisions of own images: lists in every form, folders, random parts."""

import unicodedata
from pathlib import Path

import pytest

from segjax.data.own_splits import Item, choose_splits
from segjax.errors import UserError


def items(*keys):
    return [Item(key, Path(f"{key}.jpg"), Path(f"{key}.png")) for key in keys]


def divided(keys, tmp_path, lists, **options):
    paths = {}
    for name, text in lists.items():
        paths[name] = str(tmp_path / f"{name}.txt")
        Path(paths[name]).write_bytes(text if isinstance(text, bytes) else text.encode())
    return choose_splits(items(*keys), lists=paths, **options)


def chosen(*args, **kwargs):
    return {name: [item.key for item in part] for name, part in divided(*args, **kwargs).splits.items()}


KEYS = ("1007", "1007 (2)", "d/a,b", "d/c\td", "d/plain", "e/ü f", "it's", 'q"q', "o/1007 (3)", "x.y")


@pytest.mark.parametrize(
    "row, key",
    [
        ("1007 (2).jpg", "1007 (2)"),
        ("1007.jpg", "1007"),
        ("1007", "1007"),
        ("1007 (2).jpg 1007 (2).png", "1007 (2)"),
        ("1007.jpg 1007.png", "1007"),
        ("1007 (2)", "1007 (2)"),
        ('"1007 (2).jpg" "1007 (2).png"', "1007 (2)"),
        ("'1007 (2).jpg', 5", "1007 (2)"),
        ("1007 (2).jpg\tmasks/1007 (2).png\t17", "1007 (2)"),
        ("1007 (2).jpg,masks/1007 (2).png", "1007 (2)"),
        ("1007 (3).jpg", "o/1007 (3)"),  # by the last part of the path
        ("/my data/photos/1007 (3).jpg", "o/1007 (3)"),
        ("photos/plain.jpg masks/1007.png", "d/plain"),
        ("photos/plain masks/1007", "d/plain"),
        ("./d/plain.png", "d/plain"),
        ("d\\plain.jpg", "d/plain"),
        ("C:\\data\\d\\plain.jpg", "d/plain"),
        ("d/a,b.jpg", "d/a,b"),
        ('"d/a,b.jpg",1', "d/a,b"),
        ("d/c\td.jpg", "d/c\td"),
        ("  d/plain.jpg  ", "d/plain"),
        (unicodedata.normalize("NFD", "e/ü f.jpg"), "e/ü f"),
        ("it's.jpg", "it's"),
        ('q"q.jpg', 'q"q'),
        ('"q""q.jpg" m', 'q"q'),
        ("x.y", "x.y"),
        ("x.y.jpg", "x.y"),
    ],
)
def test_rows(tmp_path, row, key):
    for ending in ("\n", "\r\n", ""):
        assert chosen(KEYS, tmp_path, {"train": f"\n{row}{ending}"}) == {"train": [key]}


@pytest.mark.parametrize(
    "row", ["1008 (2).jpg", "photos/unknown.jpg masks/1007.png", "photos/unknown masks/1007", "nobody"]
)
def test_rows_that_name_no_image(tmp_path, row):
    with pytest.raises(UserError, match=r"train.txt, row 2 names .*, but there is no such image; correct the list"):
        divided(KEYS, tmp_path, {"train": f"1007\n{row}\n"})


def test_rows_with_prefix_and_suffix(tmp_path):
    text = "d/img_1_x.png\nimg_2_x\n3\n"
    keys = ["d/1", "d/2", "3"]
    assert chosen(keys, tmp_path, {"train": text}, prefix="img_", suffix="_x") == {"train": keys}
    assert chosen(["1"], tmp_path, {"train": "img1.jpg"}, prefix="img", suffix=".jpg") == {"train": ["1"]}


def test_one_image_in_two_lists_is_refused(tmp_path):
    lists = {"train": "a\nb\nc\n", "validation": "b.jpg\n"}
    with pytest.raises(UserError, match=r"1 image is in two lists, such as b.jpg in .*train.txt, row 2, and in "):
        divided("abc", tmp_path, lists)
    # lists of other names may be sums of others
    division = divided("abc", tmp_path, {"train": "a\n", "validation": "b\n", "all": "a\nb\n"})
    assert "train and all share 1 images" in division.how


def test_images_in_no_list_are_named(tmp_path):
    division = divided("abcd", tmp_path, {"train": "a\na\n", "validation": "b\n"})
    assert [item.key for item in division.unused] == ["c", "d"]
    text = division.describe()
    assert text.startswith("train 1, validation 1, by the lists ") and "2 images are in no list (c, d)" in text


def test_only_other_readings_of_lists_are_other_builds(tmp_path):
    keys = ("1007", "1007 (2)", "d/b")
    assert divided(keys, tmp_path, {"train": "1007.jpg 1007.png\nb\n"}).mark == ""
    assert divided(keys, tmp_path, {"train": "1007 (2).jpg\n"}).mark != ""


def test_how_is_chosen():
    both = items("Train/a", "Train/b", "Val/c")
    division = choose_splits(both, lists={})
    assert division.describe() == "train 2, validation 1, by the folders Train, Val" and division.mark
    assert choose_splits(items("train/a", "val/b"), lists={}).mark == ""
    random = choose_splits(both, lists={}, how="random", validation=0.34)
    assert random.describe() == "train 2, validation 1, at random (seed 0)" and not random.mark
    with pytest.raises(UserError, match="no folder is called train"):
        choose_splits(items("a", "b"), lists={}, how="folders")
    with pytest.raises(UserError, match="splits is 'folder'. Did you mean 'folders'"):
        choose_splits(both, lists={}, how="folder")
    with pytest.raises(UserError, match="contradicts the option lists"):
        choose_splits(both, lists={"train": "t.txt"}, how="random")


def test_random_parts_never_change():
    """The order of a hash; published numbers rest on it."""
    division = choose_splits(items(*(f"v_{i}" for i in range(10))), lists={}, test=0.1)
    assert {name: [item.key for item in part] for name, part in division.splits.items()} == {
        "train": ["v_0", "v_1", "v_2", "v_4", "v_6", "v_7", "v_8"],
        "validation": ["v_3", "v_5"],
        "test": ["v_9"],
    }
