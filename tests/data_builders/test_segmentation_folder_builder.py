"""Own folders: every kind of mask, every way to split, every fault."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from segjax.data import CLASSES, ClassTable, Label, LabelMap, open_source
from segjax.data.image_files import encode_png
from segjax.errors import UserError

RNG = np.random.default_rng(3)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else encode_png(data))


def pil(array, format, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format, **options)
    return buffer.getvalue()


def image(h=10, w=14):
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def fill(root, keys, mask=lambda: RNG.integers(0, 12, (10, 14), dtype=np.uint8)):
    """Writes images and masks, and returns the masks by key."""
    masks = {key: mask() for key in keys}
    for key, array in masks.items():
        write(root / f"images/{key}.png", image())
        write(root / f"masks/{key}.png", array)
    return masks


def options(root, **more):
    return {"images": str(root / "images"), "masks": str(root / "masks"), "label_map": "camvid", **more}


def opened(root, split, labelled_only=True, **more):
    return open_source(
        "segmentation_folder",
        split,
        data_dir=root / "data",
        builder_options=options(root, **more),
        labelled_only=labelled_only,
    )


def mapped(raw):
    return np.where(raw == 11, 255, raw)


def test_random_splits_are_disjoint_seeded_and_complete(tmp_path):
    masks = fill(tmp_path, [f"v_{i}" for i in range(20)])
    parts = {split: opened(tmp_path, split, test=0.1).names for split in ("train", "validation", "test")}
    assert {split: len(names) for split, names in parts.items()} == {"train": 14, "validation": 4, "test": 2}
    assert sorted(sum(parts.values(), [])) == sorted(masks)
    source = opened(tmp_path, "train", test=0.1)
    for record in (source[0], source[13]):
        np.testing.assert_array_equal(record.label, mapped(masks[record.name]))
        assert (record.sequence, f"v_{record.frame}") == ("v", record.name)
    assert opened(tmp_path, "validation", test=0.1, seed=1).names != parts["validation"]
    with pytest.raises(UserError, match="no split 'test'"):
        opened(tmp_path, "test")


def test_sequences_stay_together(tmp_path):
    fill(tmp_path, [f"{s}_{i}" for s in "abcdef" for i in range(3)])
    parts = [opened(tmp_path, split, by_sequence=True) for split in ("train", "validation")]
    sequences = [set(part.index.sequences.tolist()) for part in parts]
    assert not sequences[0] & sequences[1] and len(sequences[0] | sequences[1]) == 6
    assert [len(part) for part in parts] == [15, 3]


def test_subfolders_are_splits(tmp_path):
    fill(tmp_path, ["train/a", "train/b", "val/c", "test/d"])
    assert opened(tmp_path, "train").names == ["train/a", "train/b"]
    assert opened(tmp_path, "validation").names == ["val/c"]
    assert opened(tmp_path, "test").names == ["test/d"]
    fill(tmp_path, ["other/e"])
    with pytest.raises(UserError, match="other/e.png lies beside the split folders"):
        opened(tmp_path, "train")


def test_list_files(tmp_path):
    fill(tmp_path, ["x/a", "x/b", "y/b", "y/c"])
    (tmp_path / "t.txt").write_text("/somewhere/else/a.png masks/a.png\n\ny/b.png\n")
    (tmp_path / "v.txt").write_text("./y/c\n")
    lists = {"train": str(tmp_path / "t.txt"), "validation": str(tmp_path / "v.txt")}
    assert opened(tmp_path, "train", lists=lists).names == ["x/a", "y/b"]
    assert opened(tmp_path, "validation", lists=lists).names == ["y/c"]
    for text, message in (("b.png\n", "2 images are called so"), ("q.png\n", "no such image"), ("\n", "no image")):
        (tmp_path / "v.txt").write_text(text)
        with pytest.raises(UserError, match=f"v.txt.*{message}"):
            opened(tmp_path, "train", lists=lists)
    with pytest.raises(UserError, match="w.txt does not exist"):
        opened(tmp_path, "train", lists={"train": str(tmp_path / "w.txt")})


def test_suffixes_of_cityscapes(tmp_path):
    for frame in range(4):
        key = f"aachen/aachen_000000_{frame:06d}"
        write(tmp_path / f"images/{key}_leftImg8bit.png", image())
        write(tmp_path / f"masks/{key}_gtFine_labelIds.png", np.full((10, 14), 7, np.uint8))
        write(tmp_path / f"masks/{key}_gtFine_color.png", image())
    source = opened(
        tmp_path, "train", label_map="cityscapes", image_suffix="_leftImg8bit", mask_suffix="_gtFine_labelIds"
    )
    assert source[0].sequence == "aachen/aachen_000000" and (source[0].label == 0).all()
    assert source.num_classes == 19


def test_colour_and_palette_masks(tmp_path):
    colors = np.array([x.color for x in CLASSES["camvid"].labels], np.uint8)
    LabelMap(CLASSES["camvid"], coding="color").save(tmp_path / "map.json")
    index = {}

    def mask():
        index[len(index)] = RNG.integers(0, 12, (10, 14), dtype=np.uint8)
        return colors[index[len(index) - 1]]

    fill(tmp_path, [f"v_{i}" for i in range(5)], mask)
    palette = Image.fromarray(index[4]).convert("P")
    palette.putpalette(colors.tobytes())
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    write(tmp_path / "masks/v_4.png", buffer.getvalue())
    for split in ("train", "validation"):
        source = opened(tmp_path, split, label_map=str(tmp_path / "map.json"))
        for record in (source[i] for i in range(len(source))):
            np.testing.assert_array_equal(record.label, mapped(index[record.frame]))
        assert source.label_map.coding == "id" and source.class_names == CLASSES["camvid"].names
    # the same palette mask, read by index
    (tmp_path / "images2").mkdir()
    for i in range(2):
        write(tmp_path / f"p/images/{i}.png", image())
        write(tmp_path / f"p/masks/{i}.png", buffer.getvalue())
    np.testing.assert_array_equal(opened(tmp_path / "p", "train")[0].label, mapped(index[4]))


def test_16_bit_ids(tmp_path):
    table = ClassTable((Label(26000, "car", 0, (0, 0, 1)), Label(3, "void", 255, (0, 0, 0))))
    LabelMap(table).save(tmp_path / "map.json")
    masks = fill(tmp_path, "ab", lambda: RNG.choice([26000, 3], (10, 14)).astype(np.uint16))
    source = opened(tmp_path, "train", label_map=str(tmp_path / "map.json"))
    np.testing.assert_array_equal(source[0].label, np.where(masks[source.names[0]] == 3, 255, 0))


def test_kinds_of_images(tmp_path):
    fill(tmp_path, "abcd")
    (tmp_path / "images/a.png").unlink()
    write(tmp_path / "images/a.jpg", pil(image(), "JPEG"))
    write(tmp_path / "images/b.png", image()[..., 0])
    (tmp_path / "images/c.png").unlink()
    write(tmp_path / "images/c.webp", pil(image(), "WEBP", lossless=True))
    for split in ("train", "validation"):
        source = opened(tmp_path, split)
        for record in (source[i] for i in range(len(source))):
            path = next((tmp_path / "images").glob(f"{record.name}.*"))
            expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
            assert np.abs(record.image - expected).max() <= (4 if path.suffix == ".jpg" else 0)


def test_images_without_masks(tmp_path):
    fill(tmp_path, [f"v_{i}" for i in range(8)])
    (tmp_path / "masks/v_3.png").unlink()
    with pytest.raises(UserError, match=r"1 images in .* have no mask and 0 masks .*v_3\.png.*unpaired"):
        opened(tmp_path, "train")
    names = sum((opened(tmp_path, split, unpaired="skip").names for split in ("train", "validation")), [])
    assert len(names) == 7
    sources = [opened(tmp_path, s, labelled_only=False, unpaired="unlabelled") for s in ("train", "validation")]
    assert sorted(sum((source.names for source in sources), [])) == [f"v_{i}" for i in range(8)]
    for source in sources:
        for i in range(len(source)):
            assert (source[i].label is None) == (source.names[i] == "v_3")
    with pytest.raises(UserError, match="Did you mean 'skip'"):
        opened(tmp_path, "train", unpaired="skp")


def test_changes_are_never_stale(tmp_path):
    fill(tmp_path, [f"v_{i}" for i in range(5)])
    before = opened(tmp_path, "train")
    name = before.names[0]
    write(tmp_path / f"masks/{name}.png", np.full((10, 14), 3, np.uint8))
    assert (opened(tmp_path, "train")[0].label == 3).all()
    fill(tmp_path, ["v_9"])
    total = sum(len(opened(tmp_path, split)) for split in ("train", "validation"))
    assert total == 6
    label_map = LabelMap.open("camvid")
    label_map.save(tmp_path / "map.json")
    path = str(tmp_path / "map.json")
    assert opened(tmp_path, "train", label_map=path).num_classes == 11
    labels = tuple(x._replace(train_id=255 if x.id == 10 else x.train_id) for x in label_map.table.labels)
    status = os.stat(path)
    LabelMap(ClassTable(labels)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(tmp_path, "train", label_map=path).num_classes == 10


@pytest.mark.parametrize("key", ["images", "masks", "label_map"])
def test_needed_options(tmp_path, key):
    fill(tmp_path, "ab")
    with pytest.raises(UserError, match=f"needs the option {key}"):
        opened(tmp_path, "train", **{key: ""})


def test_faults_are_named(tmp_path):
    fill(tmp_path, "abcd")
    write(tmp_path / "masks/b.png", np.full((10, 14), 99, np.uint8))
    with pytest.raises(UserError, match=r"masks/b\.png holds ids 99"):
        opened(tmp_path, "train")
    write(tmp_path / "masks/b.png", np.zeros((10, 15), np.uint8))
    with pytest.raises(UserError, match=r"masks/b\.png is 15x10 but its image .* is 14x10"):
        opened(tmp_path, "train")
    write(tmp_path / "masks/b.png", np.zeros((10, 14), np.uint8))
    (tmp_path / "images/c.png").write_bytes((tmp_path / "images/c.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"images/c\.png is truncated"):
        opened(tmp_path, "train")
    with pytest.raises(UserError, match="too few"):
        opened(tmp_path, "train", validation=0.5, test=0.49)
    with pytest.raises(UserError, match="shares that leave images"):
        opened(tmp_path, "train", validation=0.5, test=0.6)
    with pytest.raises(UserError, match="no image in .* has a mask"):
        write(tmp_path / "other/z.png", np.zeros((2, 2), np.uint8))
        opened(tmp_path, "train", masks=str(tmp_path / "other"), unpaired="skip")
