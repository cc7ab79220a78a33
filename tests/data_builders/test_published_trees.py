"""Every published tree, written in small: what is read equals what was written, and one wrong detail is named."""

import gzip
import json
import re
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from data_builders import trees
from data_builders.cityscapes import cityscapes_dataset_builder as cityscapes
from segjax import cli
from segjax.data import build_dataset, class_table, open_source
from segjax.data.catalogue import catalogue
from segjax.data.image_files import encode_png, read_image
from segjax.errors import UserError
from tests.data_builders import mini_trees

IMAGES = re.compile("^(leftImg8bit|training/image_2|.*images)/")
TREES = ("cityscapes", "kitti", "mapillary", "bdd100k", "voc2012", "ade20k", "wilddash", "scannet")
COLORS = ("wilddash", "camvid_full")  # whose masks are colours


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """name -> (folder of the miniature tree, labels by name)."""
    made = {}
    for name in (*TREES, "camvid_full"):
        folder = tmp_path_factory.mktemp(name)
        made[name] = (folder, getattr(mini_trees, name)(folder))
    return made


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("built")


def opened(name, split, folder, data_dir, *, labelled_only=True, with_instances=False, label_map=None, **options):
    options = {"source_dir": str(folder), "partial": True, **options}
    return open_source(
        name,
        split,
        data_dir=data_dir,
        builder_options=options,
        labelled_only=labelled_only,
        instances=with_instances,
        label_map=label_map,
    )


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

    video = read("train_sequence", labelled_only=False, with_instances=True)
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
    built = opened("kitti", "train", folder, data_dir, instances=True, with_instances=True)
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


def faults(name):
    """name of the fault -> (what to do to the tree, what the message says)."""

    def first(folder, pattern):
        return sorted(folder.rglob(pattern))[0]

    label, image, folder = {
        "cityscapes": ("gtFine/train/*/*_labelIds.png", "aachen_000000_000019_left*.png", "gtFine"),
        "kitti": ("semantic/*.png", "training/image_2/*.png", "training/semantic"),
        "mapillary": ("labels/*.png", "training/images/*.jpg", "training/labels"),
        "bdd100k": ("masks/train/*.png", "10k/train/*.jpg", "labels"),
        "voc2012": ("SegmentationClass/2007_000032.png", "JPEGImages/2007_000032.jpg", "VOCdevkit"),
        "ade20k": ("annotations/training/*.png", "images/training/*.jpg", "ADEChallengeData2016/images"),
        "wilddash": ("panoptic/*.png", "images/*.jpg", "wd_public_v2p0/panoptic"),
        "scannet": ("scene0000_00/label/*.png", "scene0000_00/color/*.jpg", "scannet_frames_25k"),
        "camvid_full": ("0001TP_006690_L.png", "0001TP_006690.png", "LabeledApproved_full"),
    }[name]

    def unknown(tree):
        if name == "wilddash":
            path = tree / "wd_public_v2p0/panoptic.json"
            path.write_text(re.sub(r'"category_id": \d+', '"category_id": 77', path.read_text(), count=1))
        else:
            shape = (*mini_trees.SIZE, 3) if name in COLORS else mini_trees.SIZE
            first(tree, label).write_bytes(encode_png(np.full(shape, 199, np.uint8)))

    def resize(tree):
        shape = (16, 16, 3) if name in COLORS else (16, 16)
        first(tree, label).write_bytes(encode_png(np.zeros(shape, np.uint8)))

    def cut(pattern, by=40):
        def change(tree):
            path = first(tree, pattern)
            path.write_bytes(path.read_bytes()[:-by])

        return change

    unknown_ids = {"wilddash": "holds ids 77", "camvid_full": r"holds colours \(199, 199, 199\)"}.get(
        name, "holds ids 199"
    )
    lost = "has no file|have no file|are missing"
    return {
        "label lost": (lambda tree: first(tree, label).unlink(), lost),
        "image lost": (lambda tree: first(tree, image).unlink(), "have no image|are missing"),
        "odd size": (resize, "is 16x16 but its image"),
        "unknown id": (unknown, unknown_ids),
        "cut image": (cut(image), "truncated or damaged"),
        "cut label": (cut(label), "truncated or damaged"),
        "empty label": (
            lambda tree: first(tree, label).write_bytes(b""),
            "is empty .0 bytes.; copy or download it again",
        ),
        "folder lost": (lambda tree: shutil.rmtree(tree / folder), f"needs the folder .*{folder}"),
    }


@pytest.mark.parametrize("name", [*TREES, "camvid_full"])
def test_one_wrong_detail_is_named(published, tmp_path, name):
    options = {"config": "full"} if name == "camvid_full" else {}
    for number, (fault, (change, message)) in enumerate(faults(name).items()):
        tree = tmp_path / f"tree{number}"
        shutil.copytree(published[name][0], tree)
        change(tree)
        with pytest.raises(UserError, match=message) as error:
            opened(name.removesuffix("_full"), "train", tree, tmp_path / "data", **options)
        assert len(str(error.value)) < 700, fault
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


@pytest.mark.parametrize("name", TREES)
def test_half_a_tree_is_not_taken_for_a_whole_one(published, tmp_path, name):
    with pytest.raises(UserError, match=r"has \d images of \d+ under .*partial=True"):
        opened(name, "train", published[name][0], tmp_path, partial=False)


ARCHIVES = [(entry.name, archive) for entry in catalogue("/nowhere") if entry.about for archive in entry.about.archives]


@pytest.mark.parametrize("name, archive", ARCHIVES)
def test_downloads_that_were_not_finished(tmp_path, name, archive):
    """Every archive of every data set: cut off, under the name browsers give it meanwhile, and whole but packed."""
    options = {"config": "full"} if name == "camvid" else {}
    path, part = tmp_path / archive, tmp_path / f"{archive}.part"
    path.write_bytes((b"PK\x03\x04" if archive.endswith("zip") else gzip.compress(bytes(999))[:10]) + bytes(100))
    size = path.stat().st_size
    with pytest.raises(UserError, match=rf"{archive} is a download that was not finished \({size} bytes\); download"):
        opened(name, "train", tmp_path, tmp_path / "data", **options)
    path.rename(part)
    with pytest.raises(UserError, match=rf"{archive}.part is a download that was not finished"):
        opened(name, "train", tmp_path, tmp_path / "data", **options)
    part.unlink()
    if archive.endswith(".tar"):
        return  # known by its size alone
    with tarfile.open(path, "w:gz") if archive.endswith("tgz") else zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(UserError, match=f"needs the folder .*; unpack .*{archive} in"):
        opened(name, "train", tmp_path, tmp_path / "data", **options)


INSTANCES, FINE, COARSE = {"instances": True}, "gtFine/val/*/*_instanceIds.png", "gtCoarse/*/*/*_labelIds.png"
PARTS = [  # options, file, what it becomes (None: it is lost), what the message says
    ("cityscapes", INSTANCES, FINE, None, "have no file NAME_gtFine_instanceIds.png"),
    ("cityscapes", INSTANCES, FINE, np.zeros((8, 8), np.uint16), "is 8x8 but its image"),
    ("cityscapes", {"parts": ["coarse"]}, COARSE, np.full(mini_trees.SIZE, 77, np.uint8), "holds ids 77"),
    ("cityscapes", {"parts": ["coarse"]}, COARSE, None, "have no file NAME_gtCoarse_labelIds.png"),
    ("kitti", INSTANCES, "training/instance/*.png", None, "have no file NAME.png in .*instance"),
    ("kitti", INSTANCES, "training/instance/*.png", b"\x89PNG\r\n\x1a\n cut", "truncated or damaged"),
    (
        "voc2012",
        {"config": "aug"},
        "cls/2008_000008.mat",
        b"MATLAB 5.0 cut",
        "is no segmentation of SBD .*copy it again",
    ),
    ("voc2012", {"config": "aug"}, "cls/2008_000015.mat", None, "train.txt lists are missing .*2008_000015.mat"),
    ("wilddash", {}, "panoptic.json", b"{", "panoptic.json is no COCO panoptic file"),
]


@pytest.mark.parametrize("name, options, pattern, content, message", PARTS)
def test_wrong_details_of_the_other_parts(published, tmp_path, name, options, pattern, content, message):
    tree = tmp_path / "tree"
    shutil.copytree(published[name][0], tree)
    path = sorted(tree.rglob(pattern))[0]
    path.unlink() if content is None else path.write_bytes(
        content if isinstance(content, bytes) else encode_png(content)
    )
    with pytest.raises(UserError, match=message):
        opened(name, "train", tree, tmp_path / "data", **options)


def test_nothing_given_and_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGJAX_KITTI", raising=False)
    with pytest.raises(UserError, match=r"data_semantics.zip from https.*source_dir or in \$SEGJAX_KITTI"):
        open_source("kitti", "train", data_dir=tmp_path)
    monkeypatch.setenv("SEGJAX_KITTI", str(tmp_path / "no"))
    with pytest.raises(UserError, match=r"folder .*no of KITTI semantics does not exist"):
        open_source("kitti", "train", data_dir=tmp_path)


def test_disk_space_is_checked_first(published, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(trees.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="KITTI semantics needs 0.0 GB in .*free space or choose another place"):
        opened("kitti", "train", published["kitti"][0], tmp_path)


def test_missing_neighbours_are_named(published, tmp_path):
    options = {"parts": ("sequence",), "neighbours": 3}
    items = [trees.Item("a_10", Path("a_10.png"), Path("a.png"), "a", 10)]
    frames = {("a", frame): Path(f"a_{frame}.png") for frame in (9, 11)}
    with pytest.raises(UserError, match="2 frames within 2 .*a frame 8, a frame 12"):
        trees.with_neighbours(items, frames, 2, partial=False)
    assert [x.frame for x in trees.with_neighbours(items, frames, 2, partial=True)] == [9, 10, 11]
    source = opened(
        "cityscapes", "train_sequence", published["cityscapes"][0], tmp_path, labelled_only=False, **options
    )
    assert len(source) == 15  # partial: those that are there


def test_a_complete_build_outlives_its_published_files(published, tmp_path, monkeypatch):
    from data_builders.kitti import kitti_dataset_builder

    tree = tmp_path / "tree"
    shutil.copytree(published["kitti"][0], tree)
    monkeypatch.setitem(kitti_dataset_builder.ABOUT.images, "train", 4)
    monkeypatch.setitem(kitti_dataset_builder.ABOUT.images, "test", 4)
    assert len(opened("kitti", "train", tree, tmp_path / "data", partial=False)) == 4
    shutil.rmtree(tree)
    assert len(open_source("kitti", "train", data_dir=tmp_path / "data")) == 4


def test_every_data_set_is_documented(root):
    for entry in catalogue("/nowhere"):
        text = (root / entry.about.readme).read_text()
        assert all(archive in text for archive in entry.about.archives), entry.name
        assert entry.about.licence.split(" ")[0] in text and entry.about.homepage in text
        assert bool(entry.about.citation) == bool(entry.about.homepage)
        assert json.dumps(dict(entry.about.divisions))


def test_catalogue_lists_what_is_built(published, data_dir, capsys):
    opened("kitti", "train", published["kitti"][0], data_dir)
    assert cli.main(["datasets", "kitti", "voc2012", f"--data-dir={data_dir}"]) == 0
    text = capsys.readouterr().out
    kitti, voc = text.split("\nvoc2012: ")
    assert "train 4, test 4" in kitti and "cv2_validation" in kitti
    assert "classes   21: background" in voc and "train_aug" in voc
    assert cli.main(["datasets", "kiti"]) == 2
    assert "Did you mean 'kitti'" in capsys.readouterr().err
    assert cli.main(["datasets", f"--data-dir={data_dir}/no"]) == 0
    assert capsys.readouterr().out.count("built     no") >= 10


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
