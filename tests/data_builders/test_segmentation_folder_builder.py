"""Own folders: every kind of mask, every way to split, every fault."""

import contextlib
import io
import os

import numpy as np
import pytest
from PIL import Image

from segjax.data import CLASSES, ClassTable, Label, LabelMap, open_source
from segjax.data.builds import _configure
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


def opened(root, split, labelled_only=True, fields=(), **more):
    return open_source(
        "segmentation_folder",
        split,
        data_dir=root / "data",
        builder_options=options(root, **more),
        labelled_only=labelled_only,
        fields=fields,
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


@pytest.mark.parametrize("spelling", [("Train", "Val", "Test"), ("x/train2017", "x/val2017", "x/test2017")])
def test_subfolders_of_any_spelling_are_splits(tmp_path, spelling, capfd):
    keys = [f"{folder}/{name}" for folder, name in zip(spelling, "abc")]
    fill(tmp_path, keys)
    parts = [opened(tmp_path, split).names for split in ("train", "validation", "test")]
    assert parts == [[key] for key in keys]
    folders = ", ".join(folder.rpartition("/")[2] for folder in spelling)
    assert f"Splits: train 1, validation 1, test 1, by the folders {folders}" in capfd.readouterr().err
    fill(tmp_path, [f"{spelling[0]}/{name}" for name in "de"])
    assert len(opened(tmp_path, "train", splits="random")) == 4
    with pytest.raises(UserError, match="option splits is 'any'"):
        opened(tmp_path, "train", splits="any")


def test_splits_that_are_not_clear_are_refused(tmp_path):
    fill(tmp_path, ["val/a", "test/b"])
    with pytest.raises(UserError, match="none is for training.*splits='random'"):
        opened(tmp_path, "train")
    assert len(opened(tmp_path, "train", splits="random")) == 1


def test_builds_of_earlier_versions_keep_their_names(tmp_path):
    """Computed with the version before these options; the source files' part of the name depends on their place."""

    def name(options):
        return _configure("segmentation_folder", options)[1].name.partition("-")[0]

    fill(tmp_path, ["a1", "a2"])
    fixed = {"images": "images", "masks": "masks", "label_map": "camvid"}
    with contextlib.chdir(tmp_path):
        assert name(fixed) == "6627e12de36d"
        assert name({**fixed, "splits": "auto", "image_prefix": "", "mask_prefix": ""}) == "6627e12de36d"
        for other in ({"splits": "random"}, {"image_prefix": "a", "mask_prefix": "a", "unpaired": "skip"}):
            assert name({**fixed, **other}) != "6627e12de36d"


def test_folders_that_were_divided_at_random_are_built_again(tmp_path):
    """The same files and options as before, but other splits: the old build must not be used."""
    fill(tmp_path, ["Train/a", "Val/b"])
    config = _configure("segmentation_folder", options(tmp_path))[1]
    assert config.divide()[1].mark and config.fingerprint().endswith(config.divide()[1].mark)


def test_accents_that_pair_now_make_another_build(tmp_path):
    """Earlier versions skipped such images."""
    fill(tmp_path, ["a", "b", "caf\u00e9"])
    config = _configure("segmentation_folder", options(tmp_path, unpaired="skip"))[1]
    assert "pairs" not in config.fingerprint()
    os.rename(tmp_path / "masks/caf\u00e9.png", tmp_path / "masks/cafe\u0301.png")
    assert config.fingerprint().endswith("\npairs ['a', 'b', 'caf\u00e9']")
    assert sum(len(opened(tmp_path, split, unpaired="skip")) for split in ("train", "validation")) == 3


def test_prefixes_stars_and_what_is_left_out(tmp_path, capfd):
    for split in ("train", "val"):
        for name in "ab":
            write(tmp_path / f"{split}/images/img_{name}.png", image())
            write(tmp_path / f"{split}/masks/mask_{name}.png", np.zeros((10, 14), np.uint8))
    write(tmp_path / "val/images/img_c.png", image())
    write(tmp_path / "val/images/img_d.heif", b"x")
    write(tmp_path / "val/masks/colour_a.png", image())
    more = {"images": str(tmp_path / "*/images"), "masks": str(tmp_path / "*/masks"), "unpaired": "skip"}
    source = opened(tmp_path, "train", **more, image_prefix="img_", mask_prefix="mask_")
    assert source.names == ["train/a", "train/b"]
    log = capfd.readouterr().err
    for text in (
        "Splits: train 2, validation 2, by the folders train, val",
        "img_d.heif (no images)",
        "colour_a.png (of other names)",
        "1 image is skipped for lack of a partner",
    ):
        assert log.count(text) == 1, text


def test_the_error_of_unpaired_images_proposes(tmp_path):
    for name in ("0", "1", "2"):
        write(tmp_path / f"images/{name}.png", image())
        write(tmp_path / f"masks/{name}_gt.png", np.zeros((10, 14), np.uint8))
    with pytest.raises(UserError, match=r"3 images .*--config\.dataset\.options\.mask_suffix=_gt"):
        opened(tmp_path, "train")
    with pytest.raises(UserError, match=r"no image .*--config\.dataset\.options\.mask_suffix=_gt"):
        opened(tmp_path, "train", unpaired="skip")


@pytest.mark.parametrize("name", ["²", "٣", "a\nb", "x\u2028y", "🚗 1", "1691234567890123456"])
def test_names_of_all_of_unicode_are_built(tmp_path, name):
    masks = fill(tmp_path, [f"{name}/{name}", "b"])
    names = [n for split in ("train", "validation") for n in opened(tmp_path, split).names]
    assert sorted(names) == sorted(masks)


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
    sources = [
        opened(tmp_path, split, labelled_only=False, unpaired="unlabelled", fields=fields)
        for split in ("train", "validation")
        for fields in ((), ("all_labels",))  # without a mask there is no label to show either
    ]
    assert sorted(sum((source.names for source in sources[::2]), [])) == [f"v_{i}" for i in range(8)]
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
