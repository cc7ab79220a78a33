"""Published trees with one wrong detail, halves of them, downloads that were not finished: what is wrong is named."""

import gzip
import re
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from data_builders import trees
from segjax.data import open_source
from segjax.data.catalogue import catalogue
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from tests.data_builders import mini_trees
from tests.data_builders.mini_trees import TREES, opened

COLORS = ("wilddash", "camvid_full")  # whose masks are colours


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
    pytest.param("wilddash", {}, "panoptic.json", b"[" * 99_999, "panoptic.json is no COCO panoptic", id="tower"),
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
