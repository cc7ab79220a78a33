"""ScanNet's 2D benchmark: both published trees, the lists of scenes, smaller labels, and the 39 classes of ROB 2018."""

import shutil

import cv2
import numpy as np
import pytest

from segjax.data import class_table, open_source
from segjax.data.image_files import encode_png, read_image
from segjax.data.joined import Joined
from segjax.errors import UserError
from tests.data_builders import mini_trees

DRIVING = ("cityscapes", "kitti", "bdd100k", "wilddash")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scannet")
    return folder, mini_trees.scannet(folder)


def opened(split, folder, data_dir, *, label_map=None, labelled_only=True, **options):
    options = {"source_dir": str(folder), "partial": True, **options}
    return open_source(
        "scannet", split, data_dir=data_dir, builder_options=options, label_map=label_map, labelled_only=labelled_only
    )


def test_records_equal_the_files(published, tmp_path):
    folder, labels = published
    train = opened("train", folder, tmp_path)
    assert train.names == ["scene0000_00_000000", "scene0000_00_000100"]
    assert train.index.sequences.tolist() == ["scene0000_00"] * 2 and train.index.frames.tolist() == [0, 100]
    table = {label.id: label.train_id for label in class_table("scannet").labels}
    for record in (*train, *opened("validation", folder, tmp_path)):
        scene, frame = record.name[:12], record.name[13:]
        image = read_image(folder / f"scannet_frames_25k/{scene}/color/{frame}.jpg")
        np.testing.assert_array_equal(record.image, image)
        raw = cv2.resize(labels[record.name], image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        np.testing.assert_array_equal(record.label, np.vectorize(table.get)(raw))
    test = opened("test", folder, tmp_path, labelled_only=False)
    assert test.names == ["scene0707_00_000000"] and test[0].label is None
    assert train.num_classes == 20 and train.class_names[-1] == "other furniture"


def test_the_tree_of_the_challenge(published, tmp_path):
    tree = tmp_path / "scannet"
    shutil.copytree(published[0] / "scannet_frames_25k", tree / "train")
    shutil.copytree(published[0] / "scannet_frames_test", tree / "test")
    with pytest.raises(UserError, match=r"list of scenes .*scannet_train.txt is missing; copy .*Tasks/Benchmark"):
        opened("train", tree, tmp_path / "data", lists="v1")
    (tree / "scannet_train.txt").write_text("scene0011_00\n")
    (tree / "scannetv1_val.txt").write_text("scene0000_00\n")
    assert opened("train", tree, tmp_path / "data", lists="v1").names == ["scene0011_00_000000"]
    assert len(opened("trainval", tree, tmp_path / "data", lists="v1")) == 3
    assert len(opened("test", tree, tmp_path / "data", lists="v1", labelled_only=False)) == 1


def test_wrong_lists_and_sizes_are_named(published, tmp_path):
    tree = tmp_path / "scannet"
    shutil.copytree(published[0], tree)
    with pytest.raises(UserError, match="option lists is 'v3'"):
        opened("train", tree, tmp_path / "data", lists="v3")
    (tree / "scannetv2_train.txt").write_text("scene0000_00 scene0500_00\n")
    with pytest.raises(UserError, match=r"lacks 1 of the 2 scenes .*\(scene0500_00\)"):
        opened("train", tree, tmp_path / "data", partial=False)
    (tree / "scannetv2_train.txt").write_text("bedroom\n")
    with pytest.raises(UserError, match="lists 'bedroom', which is no scene"):
        opened("train", tree, tmp_path / "data")
    shutil.copy(published[0] / "scannetv2_train.txt", tree)
    label = tree / "scannet_frames_25k/scene0000_00/label/000100.png"
    label.write_bytes(encode_png(np.zeros((16, 30), np.uint8)))
    with pytest.raises(UserError, match="000100.png is 30x16 but its image"):
        opened("train", tree, tmp_path / "data")


def test_the_challenge_has_39_classes(published, tmp_path):
    names = {
        name: class_table(f"rob_{name}").names for name in ("cityscapes", "kitti", "bdd100k", "wilddash", "scannet")
    }
    expected = class_table("cityscapes").names + class_table("scannet").names
    assert set(names.values()) == {expected} and len(expected) == 39
    folder, labels = published
    indoor = opened("train", folder, tmp_path, label_map="rob_scannet")
    driving = {}
    for name in ("cityscapes", "wilddash"):
        tree = tmp_path / name
        getattr(mini_trees, name)(tree)
        driving[name] = open_source(
            name, "train", data_dir=tmp_path, builder_options={"source_dir": str(tree), "partial": True},
            label_map=f"rob_{name}",
        )  # fmt: skip
    source = Joined([driving["cityscapes"], driving["wilddash"], indoor])
    assert source.num_classes == 39
    plain = opened("train", folder, tmp_path)
    for record, same in zip(indoor, plain):
        np.testing.assert_array_equal(record.label, np.where(same.label == 255, 255, same.label + 19))
    assert {int(x) for record in driving["cityscapes"] for x in np.unique(record.label)} <= {*range(19), 255}
