"""Writes the published trees of datasets in small: real names and encodings, 2 to 6 random images of 32x64."""

import json
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from PIL import Image

from segjax.data import open_source
from segjax.data.class_table import ClassTable
from segjax.data.classes import class_table
from segjax.data.image_files import encode_png
from segjax.data.tables.voc2012 import color

SIZE = (32, 64)
TREES = ("cityscapes", "kitti", "mapillary", "bdd100k", "voc2012", "ade20k", "wilddash", "scannet")
CITYSCAPES_FRAMES = {
    "train": ("aachen_000000_000019", "hamburg_000000_103075", "stuttgart_000001_000019"),
    "val": ("frankfurt_000000_000294", "munster_000003_000019"),
    "test": ("berlin_000000_000019",),
    "train_extra": ("augsburg_000000_000000", "troisdorf_000000_000073"),
}


def image(rng: np.random.Generator) -> np.ndarray:
    """uint8 (32, 64, 3)."""
    return rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def ids(rng: np.random.Generator, table: ClassTable, *, size=SIZE) -> np.ndarray:
    """Random raw ids of a table in blocks of 8x8, uint8 (h, w)."""
    values = np.array([label.id for label in table.labels], np.uint8)
    small = values[rng.integers(0, len(values), (size[0] // 8, size[1] // 8))]
    return np.kron(small, np.ones((8, 8), np.uint8))


def write(path: Path, array: np.ndarray) -> np.ndarray:
    """Writes an image, JPEG or PNG by its suffix; returns the array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        assert cv2.imwrite(str(path), array[..., ::-1])
    else:
        path.write_bytes(encode_png(array))
    return array


def write_palette(path: Path, array: np.ndarray, palette: np.ndarray) -> None:
    """Writes ids as a palette PNG, as VOC and Mapillary do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array, mode=None)
    picture.putpalette(palette.astype(np.uint8).tobytes())
    picture.save(path)
    assert Image.open(path).mode == "P"


def cityscapes(root: Path, *, reach: int = 2) -> dict[str, np.ndarray]:
    """All parts; returns the labels by frame."""
    rng, labels = np.random.default_rng(1), {}
    for split, frames in CITYSCAPES_FRAMES.items():
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        for frame in frames:
            city, number = frame.split("_")[0], int(frame[-6:])
            write(root / f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png", image(rng))
            label = ids(rng, class_table("cityscapes"))
            label[label == 255] = 0
            labels[frame] = label
            stem = root / f"{kind}/{split}/{city}/{frame}_{kind}"
            write(stem.with_name(stem.name + "_labelIds.png"), label)
            write(stem.with_name(stem.name + "_color.png"), image(rng))
            instances = np.where(label >= 24, label.astype(np.uint16) * 1000 + 3, label).astype(np.uint16)
            write(stem.with_name(stem.name + "_instanceIds.png"), instances)
            stem.with_name(stem.name + "_polygons.json").write_text("{}")
            if split in ("train", "val"):
                for offset in range(-reach, reach + 1):
                    name = f"{frame[:-6]}{number + offset:06d}_leftImg8bit.png"
                    write(root / f"leftImg8bit_sequence/{split}/{city}/{name}", image(rng))
    for number in range(2):
        write(root / f"leftImg8bit/demoVideo/stuttgart_00/stuttgart_00_000000_{number:06d}_leftImg8bit.png", image(rng))
    return labels


def kitti(root: Path) -> dict[str, np.ndarray]:
    """training and testing; frames 0, 1, 5 of cv0's validation and 2."""
    rng, labels = np.random.default_rng(2), {}
    for number in (0, 1, 2, 5):
        name = f"{number:06d}_10"
        write(root / f"training/image_2/{name}.png", image(rng))
        label = ids(rng, class_table("kitti"))
        label[label == 255] = 0
        labels[name] = write(root / f"training/semantic/{name}.png", label)
        instances = (label.astype(np.uint16) << 8) + np.where(label >= 24, 2, 0).astype(np.uint16)
        write(root / f"training/instance/{name}.png", instances)
        write(root / f"training/semantic_rgb/{name}.png", image(rng))
        write(root / f"testing/image_2/{name}.png", image(rng))
    return labels


def mapillary(root: Path, *, labels_folder: str = "labels") -> dict[str, np.ndarray]:
    """training, validation, testing with palette masks."""
    rng, labels, table = np.random.default_rng(3), {}, class_table("mapillary")
    palette = np.array([label.color for label in table.labels])
    for split, names in (("training", ("0035fkbjWljhaftpVM37-g", "00qclUcInksIYnm19b1Xfw")), ("validation", ("_x-1",))):
        for name in names:
            write(root / f"{split}/images/{name}.jpg", image(rng))
            labels[name] = ids(rng, table)
            write_palette(root / f"{split}/{labels_folder}/{name}.png", labels[name], palette)
    write(root / "testing/images/abc.jpg", image(rng))
    return labels


def bdd100k(root: Path, *, old: bool = False) -> dict[str, np.ndarray]:
    """The first release (old) or the later one."""
    rng, labels = np.random.default_rng(4), {}
    for split, names in (("train", ("0004a4c0-d4dff0ad", "00054602-3bf57337")), ("val", ("7d06fefd-f7be05a6",))):
        for name in names:
            write(root / (f"seg/images/{split}" if old else f"images/10k/{split}") / f"{name}.jpg", image(rng))
            labels[name] = ids(rng, class_table("bdd100k"))
            folder = root / (f"seg/labels/{split}" if old else f"labels/sem_seg/masks/{split}")
            write(folder / (f"{name}_{split}_id.png" if old else f"{name}.png"), labels[name])
    return labels


def voc2012(root: Path) -> dict[str, np.ndarray]:
    """VOCdevkit with lists, and SBD beside it; 2008_000002 is in both, 2007_000033 is VOC's validation and SBD's."""
    rng, labels, table = np.random.default_rng(5), {}, class_table("voc2012")
    voc, sbd = root / "VOCdevkit/VOC2012", root / "benchmark_RELEASE/dataset"
    palette = np.array([color(index) for index in range(256)])
    lists = {"train": ["2007_000032", "2008_000002"], "val": ["2007_000033"]}
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    for split, names in lists.items():
        (voc / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write(voc / f"JPEGImages/{name}.jpg", image(rng))
            labels[name] = ids(rng, table)
            write_palette(voc / f"SegmentationClass/{name}.png", labels[name], palette)
    for folder in ("cls", "img"):
        (sbd / folder).mkdir(parents=True)
    for split, names in (("train", ["2008_000002", "2008_000008"]), ("val", ["2007_000033", "2008_000015"])):
        (sbd / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write(sbd / f"img/{name}.jpg", image(rng))
            label = np.minimum(ids(rng, table), 20)
            labels.setdefault(name, label)
            truth = {"Boundaries": np.zeros((20, 1)), "Segmentation": label, "CategoriesPresent": np.array([[1]])}
            scipy.io.savemat(sbd / f"cls/{name}.mat", {"GTcls": truth})
    return labels


def ade20k(root: Path) -> dict[str, np.ndarray]:
    """images and annotations; one image is grey, as some are."""
    rng, labels = np.random.default_rng(6), {}
    for split, names in (
        ("training", ("ADE_train_00000001", "ADE_train_00000002")),
        ("validation", ("ADE_val_00000001",)),
    ):
        for name in names:
            path = root / f"ADEChallengeData2016/images/{split}/{name}.jpg"
            write(path, image(rng))
            if name.endswith("2"):
                cv2.imwrite(str(path), image(rng)[..., 0])
            labels[name] = write(
                root / f"ADEChallengeData2016/annotations/{split}/{name}.png", ids(rng, class_table("ade20k"))
            )
    return labels


def wilddash(root: Path) -> dict[str, np.ndarray]:
    """images, COCO panoptic PNGs and panoptic.json."""
    rng, labels, annotations = np.random.default_rng(7), {}, []
    for name in ("aa0000_100000", "ab0001_100000"):
        write(root / f"wd_public_v2p0/images/{name}.jpg", image(rng))
        label = ids(rng, class_table("wilddash"))
        label[label == 255] = 0
        labels[name] = label
        segment = label.astype(np.uint32) * 300 + (label > 0)
        picture = np.stack([segment & 255, segment >> 8 & 255, segment >> 16], axis=-1).astype(np.uint8)
        write(root / f"wd_public_v2p0/panoptic/{name}.png", picture)
        info = [{"id": int(i) * 300 + 1, "category_id": int(i), "iscrowd": 0} for i in np.unique(label) if i]
        annotations.append({"file_name": f"{name}.png", "image_id": name, "segments_info": info})
    (root / "wd_public_v2p0/panoptic.json").write_text(json.dumps({"annotations": annotations, "categories": []}))
    return labels


def wilddash_1(root: Path) -> dict[str, np.ndarray]:
    """The first release: all files of an image in one folder."""
    rng, labels = np.random.default_rng(10), {}
    for name in ("cn0000_100000", "de0001_100000"):
        write(root / f"wd_val_01/{name}.png", image(rng))
        label = ids(rng, class_table("cityscapes"))
        label[label == 255] = 0
        labels[name] = write(root / f"wd_val_01/{name}_labelIds.png", label)
        write(root / f"wd_val_01/{name}_labelColors.png", image(rng))
        write(root / f"wd_val_01/{name}_instanceIds.png", label.astype(np.uint16) * 1000)
    write(root / "wd_both_01/ad0000_100000.png", image(rng))
    return labels


def scannet(root: Path) -> dict[str, np.ndarray]:
    """Scenes of two frames with lists; the labels of the second scene have half the size of its images."""
    rng, labels = np.random.default_rng(9), {}
    frames = root / "scannet_frames_25k"
    for scene, numbers, part in (("scene0000_00", (0, 100), 1), ("scene0011_00", (0,), 2)):
        for number in numbers:
            write(frames / f"{scene}/color/{number:06d}.jpg", image(rng))
            label = ids(rng, class_table("scannet"), size=(SIZE[0] // part, SIZE[1] // part))
            labels[f"{scene}_{number:06d}"] = write(frames / f"{scene}/label/{number:06d}.png", label)
            write(frames / f"{scene}/depth/{number:06d}.png", rng.integers(0, 9000, SIZE).astype(np.uint16))
    write(root / "scannet_frames_test/scene0707_00/color/000000.jpg", image(rng))
    (root / "scannetv2_train.txt").write_text("scene0000_00\n")
    (root / "scannetv2_val.txt").write_text("scene0011_00\n")
    return labels


def camvid_full(root: Path) -> dict[str, np.ndarray]:
    """Stills and colour masks of 32 labels; returns the colours."""
    rng, labels = np.random.default_rng(8), {}
    colors = np.array([label.color for label in sorted(class_table("camvid_32").labels)], np.uint8)
    for stem in ("0001TP_006690", "0001TP_008550", "0006R0_f00930", "0016E5_07959", "0016E5_08190", "Seq05VD_f00030"):
        write(root / f"701_StillsRaw_full/{stem}.png", image(rng))
        raw = np.kron(rng.integers(0, 32, (4, 8)), np.ones((8, 8), np.int64))
        labels[stem] = write(root / f"LabeledApproved_full/{stem}_L.png", colors[raw])
    return labels


def opened(name, split, folder, data_dir, *, labelled_only=True, fields=(), label_map=None, **options):
    options = {"source_dir": str(folder), "partial": True, **options}
    return open_source(
        name,
        split,
        data_dir=data_dir,
        builder_options=options,
        labelled_only=labelled_only,
        fields=fields,
        label_map=label_map,
    )
