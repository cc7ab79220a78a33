"""Every published tree, written in small: what is read equals what was written."""

import re

import numpy as np
import pytest

from data_builders.cityscapes import cityscapes_dataset_builder as cityscapes
from segjax.data import build_dataset, class_table
from segjax.data.image_files import read_image
from segjax.errors import UserError
from tests.data_builders import mini_trees
from tests.data_builders.mini_trees import opened

IMAGES = re.compile("^(leftImg8bit|training/image_2|.*images)/")


def check_labels(source, labels, table):
    """Every label is what was written, by train id."""
    train_id = np.full(256, 254, np.uint8)
    for label in class_table(table).labels:
        train_id[label.id] = label.train_id
    for record in source:
        np.testing.assert_array_equal(record.label, train_id[labels[record.name]], err_msg=record.name)


@pytest.mark.parametrize(
    "name, split, names",
    [
        ("cityscapes", "train+validation", [*mini_trees.CITYSCAPES_FRAMES["train"], "frankfurt_000000_000294"]),
        ("kitti", "train", ["000000_10", "000001_10", "000002_10", "000005_10"]),
        ("mapillary", "trainval", ["00qclUcInksIYnm19b1Xfw", "0035fkbjWljhaftpVM37-g", "_x-1"]),
        ("bdd100k", "trainval", ["0004a4c0-d4dff0ad", "00054602-3bf57337", "7d06fefd-f7be05a6"]),
        ("ade20k", "trainval", ["ADE_train_00000001", "ADE_train_00000002", "ADE_val_00000001"]),
        ("wilddash", "train", ["aa0000_100000", "ab0001_100000"]),
    ],
)
def test_records_equal_the_files(published, data_dir, name, split, names):
    folder, labels = published[name]
    source = opened(name, split, folder, data_dir)
    assert source.names[: len(names)] == names
    check_labels(source, labels, name)
    for record in source:
        (file,) = [path for path in folder.rglob(f"{record.name}*.*") if IMAGES.search(str(path.relative_to(folder)))]
        np.testing.assert_array_equal(record.image, read_image(file))


def test_old_layouts(tmp_path):
    labels = mini_trees.bdd100k(tmp_path / "bdd", old=True)
    check_labels(opened("bdd100k", "trainval", tmp_path / "bdd", tmp_path / "data"), labels, "bdd100k")
    labels = mini_trees.mapillary(tmp_path / "vistas", labels_folder="v1.2/labels")
    check_labels(opened("mapillary", "trainval", tmp_path / "vistas", tmp_path / "data"), labels, "mapillary")


def test_the_first_release_of_wilddash(tmp_path):
    labels = mini_trees.wilddash_1(tmp_path / "wd")
    source = opened("wilddash", "validation", tmp_path / "wd", tmp_path / "data", release=1)
    assert source.names == ["cn0000_100000", "de0001_100000"]
    check_labels(source, labels, "cityscapes")
    np.testing.assert_array_equal(source[1].image, read_image(tmp_path / "wd/wd_val_01/de0001_100000.png"))
    assert len(opened("wilddash", "test", tmp_path / "wd", tmp_path / "data", release=1, labelled_only=False)) == 1
    (tmp_path / "wd/wd_val_01/de0001_100000_labelIds.png").unlink()
    with pytest.raises(UserError, match="1 of 2 images in .*wd_val_01 have no file NAME_100000_labelIds.png"):
        opened("wilddash", "validation", tmp_path / "wd", tmp_path / "data", release=1)
    with pytest.raises(UserError, match="option release is 3"):
        opened("wilddash", "validation", tmp_path / "wd", tmp_path / "data", release=3)


def test_voc_with_and_without_sbd(published, data_dir):
    folder, labels = published["voc2012"]
    with pytest.raises(UserError, match="no split 'train_aug'"):
        opened("voc2012", "train_aug", folder, data_dir)
    source = opened("voc2012", "train_aug", folder, data_dir, config="aug")
    assert source.names == ["2007_000032", "2008_000002", "2008_000008", "2008_000015"]
    check_labels(source, labels, "voc2012")
    assert opened("voc2012", "validation", folder, data_dir).names == ["2007_000033"]


def test_class_maps_are_applied_when_read(published, data_dir):
    folder, labels = published["mapillary"]
    source = opened("mapillary", "train", folder, data_dir, label_map="mapillary_to_cityscapes")
    assert source.class_names == class_table("cityscapes").names
    check_labels(source, labels, "mapillary_to_cityscapes")
    with pytest.raises(UserError, match="'cityscapes' lacks the ids"):
        opened("mapillary", "train", folder, data_dir, label_map="cityscapes")


def test_cityscapes_frames_and_splits(published, data_dir):
    folder, labels = published["cityscapes"]
    options = {"parts": ["fine", "coarse", "sequence", "video"], "neighbours": 2, "instances": True}
    read = lambda split, **more: opened("cityscapes", split, folder, data_dir, **options, **more)  # noqa: E731
    assert read("cv0_train").names == read("train").names
    assert read("cv2_validation").names == ["stuttgart_000001_000019"]
    assert read("cv2_train").names == [*mini_trees.CITYSCAPES_FRAMES["train"][:2], *mini_trees.CITYSCAPES_FRAMES["val"]]
    with pytest.raises(UserError, match=r"'cv1_validation'.*no record"):
        read("cv1_validation")
    assert len(read("cv2_train+train_extra")) == 6
    check_labels(read("train_extra"), labels, "cityscapes")
    assert not any(record.label is not None for record in read("test+demo_video", labelled_only=False))

    video = read("train_sequence", labelled_only=False, fields=("instances",))
    assert len(video) == 15 and len(read("train_sequence")) == 3
    position = video.find("hamburg_000000", 103075)
    assert video[position].instances.max() == int(labels["hamburg_000000_103075"].max()) * 1000 + 3
    neighbour = video[video.find("hamburg_000000", 103077)]
    assert neighbour.label is None and neighbour.name == "hamburg_000000_103077"
    file = folder / "leftImg8bit_sequence/train/hamburg/hamburg_000000_103077_leftImg8bit.png"
    np.testing.assert_array_equal(neighbour.image, read_image(file))
    assert video.find("hamburg_000000", 1) is None
    assert read("demo_video", labelled_only=False).index.frames.tolist() == [0, 1]


def test_cityscapes_cross_validation_covers_all_cities_once():
    cities = [city for names in cityscapes.VALIDATION_CITIES.values() for city in names]
    assert len(set(cities)) == 9
    with pytest.raises(UserError, match="not the name of a Cityscapes frame"):
        cityscapes.parse_stem("aachen_19")
    with pytest.raises(UserError, match="no part 'cours'"):
        build_dataset("cityscapes", builder_options={"source_dir": "/", "parts": ["cours"]})


def test_kitti_splits_and_instances(published, data_dir):
    folder, labels = published["kitti"]
    source = opened("kitti", "cv0_validation", folder, data_dir)
    assert source.names == ["000001_10", "000005_10"]
    assert opened("kitti", "cv0_train", folder, data_dir).names == ["000000_10", "000002_10"]
    assert opened("kitti", "fold5_validation", folder, data_dir).names == ["000005_10"]
    built = opened("kitti", "train", folder, data_dir, instances=True, fields=("instances",))
    for record in built:
        raw = labels[record.name].astype(int)
        np.testing.assert_array_equal(record.instances, np.where(raw >= 24, raw * 1000 + 2, raw))


def test_kitti_with_the_frames_around(published, data_dir, tmp_path):
    rng = np.random.default_rng(0)
    for number, frame in ((0, 9), (0, 10), (0, 11), (1, 8), (1, 9), (1, 11), (2, 9), (2, 11), (5, 9), (5, 11)):
        mini_trees.write(tmp_path / f"{number:06d}_{frame:02d}.png", mini_trees.image(rng))
    options = {"frames_dir": str(tmp_path), "neighbours": 1, "labelled_only": False}
    train = opened("kitti", "cv0_train", published["kitti"][0], data_dir, **options)
    assert train.names == [f"{number:06d}_{frame:02d}" for number in (0, 2) for frame in (9, 10, 11)]
    assert train.index.labelled.tolist() == [False, True, False] * 2 and train.find("000002", 11) == 5
    held_out = opened("kitti", "cv0_validation", published["kitti"][0], data_dir, **options)
    assert set(held_out.index.sequences) == {"000001", "000005"}


def test_kitti_split_tables():
    from data_builders.kitti.kitti_dataset_builder import RELEASED, TEN_FOLD

    assert all(len(set(numbers)) == 21 and max(numbers) < 200 for numbers in RELEASED.values())
    assert sorted(number for numbers in TEN_FOLD.values() for number in numbers) == list(range(200))


def test_real_kitti_files_of_two_sizes_are_refused(kitti5, tmp_path):
    with pytest.raises(UserError, match=r"semantic/00000\d_10.png is 124\dx37\d but its image .*image_2"):
        opened("kitti", "train", kitti5, tmp_path)


def test_camvid_in_full_size_with_the_videos_frames(published, data_dir, tmp_path):
    folder, labels = published["camvid_full"]
    rng = np.random.default_rng(0)
    for frame in (6688, 6689, 6691, 6692):
        mini_trees.write(tmp_path / f"0001TP/0001TP_{frame:06d}.png", mini_trees.image(rng))
    options = {"config": "full", "frames_dir": str(tmp_path), "neighbours": 2}
    plain = opened("camvid", "train+validation+test", folder, data_dir, config="full")
    stems = ["0001TP_006690", "0006R0_f00930", "0016E5_08190", "0016E5_07959", "0001TP_008550", "Seq05VD_f00030"]
    assert plain.names == stems and plain.num_classes == 11
    train_id = {label.color: label.train_id for label in class_table("camvid_32").labels}
    for record in plain:
        expected = [[train_id[tuple(map(int, color))] for color in row] for row in labels[record.name]]
        np.testing.assert_array_equal(record.label, expected)
    video = opened("camvid", "train", folder, data_dir, labelled_only=False, **options)
    assert video.index.frames[video.index.sequences == "0001TP"].tolist() == [6688, 6689, 6690, 6691, 6692]
    assert video.index.labelled.sum() == 3


@pytest.mark.parametrize("shift", [0, 2, -1])
def test_frames_of_camvid_that_are_numbered_otherwise_are_refused(published, data_dir, tmp_path, shift):
    folder, _ = published["camvid_full"]
    rng = np.random.default_rng(0)
    for frame in range(6686, 6695):
        picture = mini_trees.image(rng)
        if frame == 6690 + shift:
            picture = read_image(folder / "701_StillsRaw_full/0001TP_006690.png")
        mini_trees.write(tmp_path / f"0001TP_{frame:06d}.png", picture)
    options = {"config": "full", "frames_dir": str(tmp_path), "neighbours": 2}
    if not shift:
        assert len(opened("camvid", "train", folder, data_dir, labelled_only=False, **options)) > 5
        return
    where = "2 after" if shift > 0 else "1 before"
    with pytest.raises(UserError, match=f"video 0001TP look like the frames {where} their numbers"):
        opened("camvid", "train", folder, data_dir, **options)


def test_class_maps_to_cityscapes():
    mapped = class_table("mapillary_to_cityscapes")
    assert (
        mapped.names == class_table("cityscapes").names and (mapped.palette == class_table("cityscapes").palette).all()
    )
    assert [mapped.ids[raw] for raw in (13, 24, 20, 2, 58, 10, 65)] == [0, 0, 12, 1, 16, 255, 255]
    assert sorted(mapped.ids) == list(range(66))
    assert class_table("bdd100k").names == class_table("wilddash").names == mapped.names
    assert [class_table("wilddash").ids[raw] for raw in (34, 35, 38)] == [14, 13, 0]
    assert class_table("voc2012").palette[[0, 1, 15, 20]].tolist() == [
        [0] * 3,
        [128, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
    ]
    assert class_table("camvid_32").names == class_table("camvid").names
