"""Labels are propagated among the images of the chosen split only, for every dataset with videos and each split."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from data_builders.camvid import full
from data_builders.cityscapes import cityscapes_dataset_builder as cityscapes
from data_builders.kitti import kitti_dataset_builder as kitti
from segjax.data.chains import find_chains
from segjax.data.joined import Subset
from segjax.data.tfds_index import Index
from segjax.errors import UserError
from segjax.stages.dataset import read_dataset
from segjax.stages.held_out import check_chains, check_propagated
from tests.data_builders import mini_trees

REACH = 2


def write_frames(folder, stills):
    """Frames named like the stills, REACH before and after each. CamVid's must show their still."""
    rng = np.random.default_rng(0)
    for still in stills.iterdir():
        name = still.stem
        stem, _, number = name.rpartition("_")
        digits = number.removeprefix("f")
        for frame in range(int(digits) - REACH, int(digits) + REACH + 1):
            start = "f" if number != digits else ""
            mini_trees.write(folder / f"{stem}_{start}{frame:0{len(digits)}d}.png", mini_trees.image(rng))
        shutil.copy(still, folder)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """name -> section `dataset` of a recipe, with neighbouring frames."""
    root = tmp_path_factory.mktemp("trees")
    mini_trees.cityscapes(root / "cityscapes", reach=REACH)
    mini_trees.kitti(root / "kitti")
    mini_trees.camvid_full(root / "camvid")
    of_kitti = write_frames(root / "kitti_frames", root / "kitti" / "training" / "image_2")
    of_camvid = write_frames(root / "camvid_frames", root / "camvid" / full.FOLDERS[0])
    common = {"partial": True, "neighbours": REACH}
    options = {
        "cityscapes": {"parts": ("fine", "sequence")},
        "kitti": {"frames_dir": str(of_kitti)},
        "camvid": {"config": "full", "frames_dir": str(of_camvid)},
    }
    return {
        name: dict(name=name, data_dir=str(root / "built"), options={"source_dir": str(root / name), **common, **more})
        for name, more in options.items()
    }


def splits(about):
    stored = [split for split in about.images if split not in ("train_extra",)]
    return [*stored, *(name for name in about.divisions if not name.endswith("_sequence"))]


OFFERED = [(about.name, split) for about in (cityscapes.ABOUT, kitti.ABOUT, full.ABOUT) for split in splits(about)]


@pytest.mark.parametrize("name, split", OFFERED)
def test_frames_of_a_split_belong_to_its_images(settings, name, split):
    dataset = read_dataset(settings[name], "dataset")
    try:
        images = dataset.open(split)
    except UserError as error:
        assert "none is labelled" in str(error) or "no record" in str(error)
        pytest.skip("the small trees have no labelled image of some splits")
    frames = dataset.open(split, labelled_only=False, frames=True)
    index = frames.index
    assert set(index.names[index.labelled]) == set(images.names)
    assert (~index.labelled).sum() >= len(images)
    of = {}
    for sequence, frame in zip(images.index.sequences, images.index.frames):
        of.setdefault(sequence, []).append(int(frame))
    for sequence, frame in zip(index.sequences, index.frames):
        assert min(abs(int(frame) - still) for still in of[sequence]) <= REACH
    others = {stored: dataset.open(stored).names for stored in ("train", "validation") if (name, stored) in OFFERED
              and (name, stored) != ("kitti", "validation")}  # fmt: skip
    outside = {image for names in others.values() for image in names} - set(images.names)
    assert not outside & set(index.names)


@pytest.mark.parametrize(
    "name, train, validation",
    [
        ("cityscapes", "cv2_train", "cv2_validation"),
        ("cityscapes", "train", "validation"),
        ("kitti", "cv0_train", "cv0_validation"),
        ("camvid", "train", "validation"),
    ],
)
def test_a_split_with_held_out_images_is_refused(settings, name, train, validation):
    dataset = read_dataset({**settings[name], "train": train, "validation": validation, "test": validation}, "dataset")

    def check(split, steps=1):
        source = dataset.open(split, labelled_only=False, frames=True)
        chains = find_chains(source.index, steps=steps, needs_before=False, frame_step=1)
        check_chains(dataset, source, chains, where="propagate.split")

    check("train")
    with pytest.raises(UserError, match=f"own validation split '{validation}', such as .*; name a split without"):
        check("validation")
    everything = {"cityscapes": "train_sequence+validation_sequence", "kitti": "train[:100%]", "camvid": "trainval"}
    with pytest.raises(UserError, match="belong to [1-9] images of the run's own validation split"):
        check(everything[name])


def test_cv2_of_cityscapes_propagates_nothing_of_stuttgart(settings):
    dataset = read_dataset({**settings["cityscapes"], "train": "cv2_train", "validation": "cv2_validation"}, "dataset")
    names = dataset.open("train", labelled_only=False, frames=True).names
    assert names and not any(name.startswith("stuttgart") for name in names)
    assert any(name.startswith("frankfurt") for name in names)  # a validation city of the official split
    source = dataset.open("train_sequence", labelled_only=False, frames=True)
    with pytest.raises(UserError, match="stuttgart_000001_000019"):
        check_chains(dataset, source, find_chains(source.index, steps=1, needs_before=False), where="propagate.split")


def test_images_that_the_run_trains_on_anyway_are_no_secret(settings):
    chosen = {"train": "trainval", "validation": "validation", "test": "validation"}
    dataset = read_dataset({**settings["cityscapes"], **chosen}, "dataset")
    source = dataset.open("train", labelled_only=False, frames=True)
    check_chains(dataset, source, find_chains(source.index, steps=1, needs_before=False), where="propagate.split")


def test_a_label_that_would_reach_a_held_out_image_is_refused(settings):
    """As if the frame before it were labelled, which KITTI's division leaves with its image."""
    dataset = read_dataset({**settings["kitti"], "train": "cv0_train", "validation": "cv0_validation"}, "dataset")
    source = dataset.open("cv0_validation", labelled_only=False, frames=True)
    held_out = source.index.labelled.copy()
    source.index.labelled[:] = False
    source.index.labelled[np.flatnonzero(held_out)[0] - 1] = True
    chains = find_chains(source.index, steps=1, needs_before=False, directions=(1,), frame_step=1)
    with pytest.raises(UserError, match="belong to 2 images of the run's own validation split"):
        check_chains(dataset, source, chains, where="propagate.split")


def propagated(*records):
    """What the stage wrote: (name of the labelled frame, step, sequence, frame number of the target) of each record."""
    index = Index(
        names=np.array([f"{name}{step:+d}" for name, step, *_ in records]),
        sequences=np.array([sequence for *_, sequence, _ in records]),
        frames=np.array([frame for *_, frame in records], np.int32),
        sizes=np.full((len(records), 2), 8, np.int32),
        labelled=np.full(len(records), True),
    )
    return Subset(SimpleNamespace(index=index, label_map=None, top_k=0), np.arange(len(records)))


def test_propagated_labels_of_another_run_are_compared_too(settings):
    dataset = read_dataset({**settings["cityscapes"], "train": "cv2_train", "validation": "cv2_validation"}, "dataset")
    good = ("aachen_000000_000019", 1, "aachen_000000", 20), ("hamburg_000000_103075", -1, "hamburg_000000", 103074)
    check_propagated(dataset, propagated(*good), where="train.extra.stage")
    of = ("stuttgart_000001_000019", 1, "stuttgart_000001", 20)
    with pytest.raises(UserError, match="train.extra.stage: .* 1 images .* such as stuttgart_000001_000019"):
        check_propagated(dataset, propagated(*good, of), where="train.extra.stage")
    on = ("stuttgart_000001_000018", 1, "stuttgart_000001", 19)
    with pytest.raises(UserError, match="belong to 1 images"):
        check_propagated(dataset, propagated(*good, on), where="train.extra.stage")


STREET = dict(height=32, width=64, train=2, validation=1, test=1, frames=6, labelled_every=3)


@pytest.mark.parametrize("name", ["scannet", "synthetic_street"])
def test_splits_of_whole_scenes_share_no_frame(name, tmp_path, street_dir):
    section = dict(name=name, options=STREET, data_dir=str(street_dir))
    if name == "scannet":
        mini_trees.scannet(tmp_path / "scannet")
        options = {"source_dir": str(tmp_path / "scannet"), "partial": True}
        section = dict(name=name, options=options, data_dir=str(tmp_path / "built"))
    dataset = read_dataset({**section, "train": "train", "validation": "validation", "test": "test"}, "dataset")
    splits = ("train", "validation", "test")
    sources = {split: dataset.open(split, labelled_only=False, frames=True) for split in splits}
    sequences = [sequence for source in sources.values() for sequence in set(source.index.sequences.tolist())]
    assert len(sequences) == len(set(sequences)) > 2
    for split, source in sources.items():
        labelled = source.index.labelled.any()  # ScanNet's test split has no labels to propagate
        chains = find_chains(source.index, steps=1, needs_before=False, frame_step=1) if labelled else []
        if split == "train" or not labelled:
            check_chains(dataset, source, chains, where="propagate.split")
        else:
            with pytest.raises(UserError, match=f"images of the run's own {split} split"):
                check_chains(dataset, source, chains, where="propagate.split")
