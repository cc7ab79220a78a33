"""Damaged label maps and lists, with fixed seeds: read, or refused in one sentence; no image is lost in silence."""

import random
from pathlib import Path

import pytest

from segjax.data.label_map import LabelMap
from segjax.data.own_splits import Item, choose_splits
from segjax.errors import UserError
from tests.data.test_image_fuzz import mutate

NAMES = ("1007 (2)", "a", "b/c", "café", "٣", "x_0001", "x_0002", "x_0010")
ITEMS = [Item(name, Path(f"images/{name}.png"), None) for name in NAMES]


@pytest.mark.parametrize("seed", range(75))
def test_a_damaged_label_map_is_read_or_named(seed, tmp_path):
    path = tmp_path / "label_map.json"
    LabelMap.open(("cityscapes", "camvid", "voc2012")[seed % 3]).save(path)
    path.write_bytes(mutate(path.read_bytes(), random.Random(seed)))
    try:
        found = LabelMap.load(path)
    except UserError as error:
        assert "label_map.json" in str(error) and "\n" not in str(error)
    else:  # what can be read is a whole map: train ids from 0 without gaps
        ids = {label.train_id for label in found.table.labels} - {255}
        assert ids == set(range(found.num_classes)) and len(found.class_names) == found.num_classes


@pytest.mark.parametrize("seed", range(75))
def test_a_damaged_list_is_read_or_named(seed, tmp_path):
    """Each image is in a split that its list names, or in the rest that the report counts; never in two."""
    chance = random.Random(seed)
    lists = {}
    for split, names in (("train", NAMES[:6]), ("validation", NAMES[6:])):
        text = chance.choice(["\n", "\r\n", "\r"]).join(f"{name}.png" for name in names)
        data = text.encode(chance.choice(["utf-8", "utf-8-sig", "utf-16"]))
        lists[split] = str(tmp_path / f"{split}.txt")
        Path(lists[split]).write_bytes(mutate(data, chance) if chance.random() < 0.8 else data)
    try:
        division = choose_splits(ITEMS, lists=lists)
    except UserError as error:
        assert ".txt" in str(error) and "\n" not in str(error)
    else:
        used = [item.key for items in (*division.splits.values(), division.unused) for item in items]
        assert sorted(used) == sorted(NAMES)
        assert not division.unused or str(len(division.unused)) in division.describe()
