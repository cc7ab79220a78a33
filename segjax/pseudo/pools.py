"""Pools of unlabelled images: records of a dataset's split, or image files and frames of videos, by number."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from segjax.data import TfdsSource
from segjax.data.folders import natural_key
from segjax.data.image_files import IMAGE_SUFFIXES, decode_image, decode_mask, is_plain_rgb, read_bytes
from segjax.data.listing import are, is_text, shown, some
from segjax.data.resized import resize_image
from segjax.data.tfds_index import Index
from segjax.data.video import VideoSource
from segjax.data.video_file import VIDEO_SUFFIXES
from segjax.errors import UserError
from segjax.media.clips import open_clips


@dataclasses.dataclass(frozen=True)
class PoolImage:
    """One image of a pool.

    place: number in its pool.
    name: in its pool.
    sequence, frame: video and position in it; without a video "" and the number in the pool.
    image: uint8 (h, w, 3), RGB.
    data: the content of a PNG or JPEG file with exactly this image, b"" if there is none.
    truth: train ids uint8 (h, w), for the report only; None if nobody knows them.
    file: of the image, with its content; None for a record of a dataset, a frame of a video, and a reduced image.
    """

    place: int
    name: str
    sequence: str
    frame: int
    image: np.ndarray
    data: bytes = b""
    truth: np.ndarray | None = None
    file: tuple[Path, bytes] | None = None


class Pool(Protocol):
    """Unlabelled images by number; safe to read from several threads.

    name: of the pool.
    source: dataset and split, or the folder or video.
    lenient: whether images that cannot be read are skipped.
    index: names, videos and frames, for the comparison with held-out images.
    identity: plain data that changes with the images.
    """

    name: str
    source: str
    lenient: bool
    index: Index
    identity: Sequence[object]

    def __len__(self) -> int:
        """Number of images."""

    def in_order(self, place: int) -> bool:
        """Returns whether an image is to be read by one thread, after those before it: a frame of a video."""

    def read(self, place: int) -> PoolImage:
        """Reads an image. Raises UserError if it cannot be read."""


class SplitPool:
    """Records of a built dataset's split; images that are stored as files keep their bytes.

    opened: the split, with unlabelled records.
    only: "unlabelled", or "all".
    size: short side in pixels that larger images are reduced to, 0 = none.
    class_names: of the network; a dataset with other classes has no truth for the report.

    Raises UserError if no record is left.
    """

    lenient = False

    def __init__(self, name: str, source: str, opened: TfdsSource, *, only: str, size: int, class_names: Sequence[str]):
        self.name, self.source, self._opened, self._size = name, source, opened, size
        self._rows = np.flatnonzero(~opened.index.labelled) if only == "unlabelled" else np.arange(len(opened))
        if not len(self._rows):
            raise UserError(
                f"pool {name!r}: all {len(opened)} records of {source} are labelled; name a split such as train::8, "
                "which keeps every 8th label, or give only='all'."
            )
        self._has_truth = tuple(opened.class_names) == tuple(class_names)
        self.index = opened.index.take(self._rows)
        self.identity = (self.index.names.tolist(), self.index.labelled.tolist())

    def __len__(self) -> int:
        return len(self._rows)

    def in_order(self, place: int) -> bool:
        """Returns False: records can be read in any order."""
        return False

    def read(self, place: int) -> PoolImage:
        """Reads a record. Raises UserError for a damaged one."""
        row = int(self._rows[place])
        record, data = self._opened[row], self._opened.encoded_image(row)
        image, truth = reduce_image(record.image, self._size), self._truth(row)
        return PoolImage(
            place,
            record.name,
            record.sequence,
            record.frame,
            image,
            data if image is record.image and is_plain_rgb(data) else b"",
            None if truth is None else _reduce_label(truth, image.shape[:2]),
        )

    def _truth(self, row: int) -> np.ndarray | None:
        """Returns the stored label, also of a record that counts as unlabelled here; None if nobody knows it."""
        if not self._has_truth:
            return None
        file = f"the mask of {self._opened.names[row]}"
        mask = decode_mask(self._opened.example(row)["label"], file)
        if (mask == mask[:1, :1]).all():
            return None  # builders store one value everywhere if an image has no label
        return self._opened.label_map.encode(mask, file)


class FilePool:
    """Image files and frames of videos: a file, a folder with all below it, or a pattern such as drive/*.jpg.

    Images are in natural order. A file that cannot be read counts as an image, and its error says which one it is.

    path: of the file or folder, or the pattern.
    every: N takes every Nth image, and every Nth frame of each video.
    exclude: folder that is not read, such as the one that results are written to.
    size: see `SplitPool`.

    problems: sentences about videos that cannot be opened.
    Raises UserError if there is no image and no video, and if no image can be read.
    """

    lenient = True

    def __init__(self, name: str, path: str | os.PathLike, *, every: int, size: int, exclude: Path | None = None):
        self.name, self.source, self._size = name, str(path), size
        self.problems: list[str] = []
        files, videos = find_files(path, exclude)
        if broken := [file for key, file in (*files, *videos) if not is_text(key)]:
            raise UserError(
                f"{are(len(broken), 'name')} not valid UTF-8: {some(map(shown, broken))}; rename them, as with convmv"
            )
        self._files = files[::every]
        self._frames: list[tuple[VideoSource, int, str]] = []
        for key, video in videos:
            try:
                opened = VideoSource([video])
            except UserError as error:
                self.problems.append(str(error))
                continue
            self._frames += [(opened, frame, key) for frame in range(0, len(opened), every)]
        self.index = self._make_index()
        self.identity = (
            [(key, file.stat().st_size) for key, file in self._files],
            [(key, file.stat().st_size) for key, file in videos],
            every,
        )
        self._find_readable()

    def _make_index(self) -> Index:
        names = [key for key, _ in self._files] + [f"{key}/{frame:06d}" for _, frame, key in self._frames]
        return Index(
            names=np.array(names, str),
            sequences=np.array([""] * len(self._files) + [key for *_, key in self._frames], str),
            frames=np.array([*range(len(self._files)), *(frame for _, frame, _ in self._frames)], np.int32),
            sizes=np.zeros((len(names), 2), np.int32),
            labelled=np.zeros(len(names), bool),
        )

    def _find_readable(self) -> None:
        errors = list(self.problems)
        for place in range(len(self)):
            try:
                self.read(place)
                return
            except UserError as error:
                errors.append(str(error))
        raise UserError(f"pool {self.name!r}: none of the images in {self.source} can be read: {errors[0]}")

    def __len__(self) -> int:
        return len(self._files) + len(self._frames)

    def in_order(self, place: int) -> bool:
        """Returns whether it is a frame of a video."""
        return place >= len(self._files)

    def read(self, place: int) -> PoolImage:
        """Reads a file or frame. Raises UserError if it cannot be read."""
        name = str(self.index.names[place])
        if place < len(self._files):
            path = self._files[place][1]
            data = read_bytes(path)
            original = decode_image(data, str(path))
            image = reduce_image(original, self._size)
            stored = data if image is original and is_plain_rgb(data) else b""
            return PoolImage(place, name, "", place, image, stored, file=(path, data) if image is original else None)
        opened, frame, key = self._frames[place - len(self._files)]
        return PoolImage(place, name, key, frame, reduce_image(opened[frame].image, self._size))


def find_files(
    path: str | os.PathLike, exclude: Path | None = None
) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Returns the (name, path) of the images, and of the videos, that a path or pattern means.

    Raises UserError if there are none.
    """
    if is_pattern(path):
        root, found = folder_of(path), map(Path, glob.glob(str(Path(path).expanduser()), recursive=True))
        # whole names: a.png and a.jpg are two images
        named = [(file.relative_to(root).as_posix(), file) for file in found if file.is_file()]
        named.sort(key=lambda item: natural_key(item[0]))
        images = [item for item in named if item[1].suffix.lower() in IMAGE_SUFFIXES]
        videos = [item for item in named if item[1].suffix.lower() in VIDEO_SUFFIXES]
        if not images and not videos:
            raise UserError(f"the pattern {path} matches no image ({' '.join(IMAGE_SUFFIXES)}) and no video.")
        return images, videos
    images, videos = [], []
    for clip in open_clips(path, exclude=exclude):
        if clip.is_video:
            videos.append((clip.name, clip.path))
        else:
            images += clip.files
    return images, videos


def is_pattern(path: str | os.PathLike) -> bool:
    """Returns whether a path is a pattern with stars, and no file of that name exists."""
    return "*" in str(path) and not Path(path).expanduser().exists()


def folder_of(path: str | os.PathLike) -> Path:
    """Returns the path itself, or the folder that a pattern lies in: drive/*.jpg -> drive."""
    path = Path(path).expanduser()
    return next((parent for parent in path.parents if "*" not in str(parent)), path) if is_pattern(path) else path


def reduce_image(image: np.ndarray, size: int) -> np.ndarray:
    """Returns an image (h, w, 3) whose short side is `size` pixels if it was larger (area average); 0 = any size."""
    short = min(image.shape[:2])
    if not size or short <= size:
        return image
    height, width = (max(1, round(side * size / short)) for side in image.shape[:2])
    return resize_image(image, (height, width))


def _reduce_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return label if label.shape == size else cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
