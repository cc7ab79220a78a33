"""A property of any tree of images and masks: every file is used, named as a problem, or named as ignored, once."""

import collections
import io
import os
import tempfile
import unicodedata
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from rich.console import Console

from segjax.data.check import check_folder
from segjax.data.folders import pair_files
from segjax.data.image_files import encode_png
from segjax.data.own_splits import Item, choose_splits
from segjax.errors import UserError

PIXELS = [encode_png(np.full((1, 1), value, np.uint8)) for value in range(3)]

# what a file system accepts: everything but "/" and NUL, at most 255 bytes
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
WORDS = st.one_of(
    st.text(LETTERS, min_size=1, max_size=8).filter(lambda text: text not in (".", "..")),
    st.sampled_from(["é", "e\u0301", "²", "٣", "1", "a b", "1007 (2)", "x_m", ".hidden", "img_1", "a.png"]),
)
FOLDERS = st.one_of(WORDS, st.sampled_from(["train", "Val", "TEST", "train2017", "images", "train_x", "dev"]))
KINDS = st.sampled_from([".png", ".PNG", ".jpg", ".webp", ".xyz", ".txt", ""])
FILES = st.tuples(
    st.lists(FOLDERS, max_size=2),
    WORDS,
    KINDS,
    st.sampled_from(["pair", "pair", "pair", "image", "mask"]),
    st.sampled_from(["NFC", "NFD"]),
)
TREES = st.lists(FILES, min_size=1, max_size=10)


def write(path, data):
    """Writes a file unless the tree has it, or a file in the place of its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
    except OSError:
        pass


def plant(tree, images, masks, mask_suffix):
    for number, (folders, stem, kind, what, form) in enumerate(tree):
        if what != "mask":
            write(images.joinpath(*folders, stem + kind), PIXELS[number % 3])
        if what != "image":
            parts = [unicodedata.normalize(form, part) for part in (*folders, stem)]
            write(masks.joinpath(*parts[:-1], f"{parts[-1]}{mask_suffix}.png"), PIXELS[number % 2])


def all_files(*roots):
    """Every file below the folders, by a walk that leaves nothing out."""
    return {Path(base, name) for root in roots for base, _, names in os.walk(root) for name in names}


def groups(pairs):
    """Lists of files by what became of them."""
    ignored = pairs.ignored
    return {
        "used": [path for _, *both in pairs.pairs for path in both],
        "alone": [path for _, path in (*pairs.images_without_mask, *pairs.masks_without_image)],
        "ignored": [*ignored.types, *ignored.hidden, *ignored.names, *ignored.by_products],
    }


def check_error(error):
    text = str(error)
    assert len(text) > 20 and text.encode()


@settings(max_examples=40)
@given(TREES, st.sampled_from([("i", "m", ""), ("i", "i", "_m"), ("i", "m", "_m"), ("i", "i/m", "")]))
def test_every_file_is_used_or_named(tree, places):
    with tempfile.TemporaryDirectory() as name:
        images, masks, suffix = Path(name, places[0]), Path(name, places[1]), places[2]
        plant(tree, images, masks, suffix)
        everything = all_files(images, masks)
        try:
            pairs = pair_files(images, masks, mask_suffix=suffix)
            report = check_folder(images, masks, mask_suffix=suffix, workers=1)
        except UserError as error:
            return check_error(error)
        found = groups(pairs)
        assert collections.Counter(path for group in found.values() for path in group) == dict.fromkeys(everything, 1)
        assert report.num_pairs == len(pairs.pairs)
        assert sum(problem.kind == "unpaired" for problem in report.problems) == len(found["alone"])
        # paired are those whose names are the same, up to the form of accents; no other rule
        for key, image, mask in pairs.pairs:
            names = [unicodedata.normalize("NFC", os.path.splitext(path)[0]) for path in (image, mask)]
            assert names[0].removeprefix(str(images)) + suffix == names[1].removeprefix(str(masks)), key
        console = Console(file=io.StringIO(), soft_wrap=True)
        report.print(console)
        text = console.file.getvalue()
        assert text.encode() and all(sentence in text for sentence in ignored_texts(pairs))


def ignored_texts(pairs):
    counts = {"no images": pairs.ignored.types, "hidden": pairs.ignored.hidden, "of other names": pairs.ignored.names}
    return [f"({why})" for why, files in counts.items() if files]


@settings(max_examples=40)
@given(
    TREES, st.lists(st.booleans(), min_size=20, max_size=20), st.sampled_from(["utf-8-sig", "utf-16"]), st.booleans()
)
def test_every_pair_is_in_one_split(tree, halves, encoding, columns):
    with tempfile.TemporaryDirectory() as name:
        images, masks = Path(name, "i"), Path(name, "m")
        plant(tree, images, masks, "")
        try:
            items = [Item(*pair) for pair in pair_files(images, masks).pairs]
        except UserError as error:
            return check_error(error)
        for how in ("auto", "random"):
            try:
                division = choose_splits(items, lists={}, how=how)
            except UserError as error:
                check_error(error)
                continue
            once(division, items)
            assert not division.unused
        # lists give back what they name, whatever it is called; a name with an end of a line cannot be in a row
        rows = {"train": {}, "validation": {}}
        for item, half in zip(items, halves):
            row = item.image.relative_to(images).as_posix()
            if "\n" not in row and "\r" not in row:
                rows["train" if half else "validation"][item.key] = f"{row}\t{item.mask}" if columns else row
        lists = {split: str(Path(name, f"{split}.txt")) for split in rows if rows[split]}
        for split, path in lists.items():
            text = "\r\n".join(rows[split].values())
            Path(path).write_bytes(text.encode(encoding))
        if lists and not (columns and "\n" in str(rows)):
            division = choose_splits(items, lists=lists)
            once(division, items)
            assert {split: [item.key for item in part] for split, part in division.splits.items()} == {
                split: [*rows[split]] for split in lists
            }


def once(division, items):
    parts = [item for part in (*division.splits.values(), division.unused) for item in part]
    assert collections.Counter(parts) == dict.fromkeys(items, 1)
