"""Records and sources: random access to images and train ids. Here, and only here, the label map is applied."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from segjax.data.classes import ClassTable
from segjax.data.folders import find_images, some, split_frame
from segjax.data.image_files import IMAGE_SUFFIXES, image_size, read_image, read_mask
from segjax.data.label_map import LabelMap
from segjax.data.listing import Ignored, are, shown
from segjax.data.pairing import better_pairs, pair_or_propose
from segjax.errors import UserError

log = logging.getLogger("segjax")


@dataclasses.dataclass(slots=True)
class Record:
    """One image of a dataset.

    image: uint8 (h, w, 3) RGB.
    label: uint8 (h, w) train ids, 255 = ignored; None if the image is not labelled.
    name: unique in its split.
    sequence, frame: video and position in it; without a video "" and the index.

    Only if the source was opened with these fields:
    flow: float32 (h, w, 2) in pixels; pixel (x, y) lies at (x + u, y + v) in the previous frame.
    flow_valid: bool (h, w), whether that place is visible; None if the dataset does not store it.
    instances: uint16 (h, w), raw id * 1000 + number; the raw id alone for classes without instances.
    soft_ids: uint8 (h, w, k), train ids of the k most probable classes of a pseudo label, 255 = none.
    soft_shares: uint8 (h, w, k), their probabilities times 255.
    """

    image: np.ndarray
    label: np.ndarray | None
    name: str
    sequence: str = ""
    frame: int = 0
    flow: np.ndarray | None = None
    flow_valid: np.ndarray | None = None
    instances: np.ndarray | None = None
    soft_ids: np.ndarray | None = None
    soft_shares: np.ndarray | None = None


@runtime_checkable
class Source(Protocol):
    """Random access to the records of one split; picklable, safe to read from several threads and processes."""

    label_map: LabelMap | None
    top_k: int  # classes that soft labels keep per pixel; 0 without soft labels

    def __len__(self) -> int:
        """Number of records n."""

    def __getitem__(self, index: int) -> Record:
        """Decodes one record. Raises UserError that names the file if it is damaged or does not fit."""

    def label(self, index: int) -> np.ndarray | None:
        """Decodes the label of one record and not its image, see `Record`. Raises UserError as for the record."""

    @property
    def names(self) -> list[str]:
        """Names of the records, without decoding images."""

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the records, int32 (n, 2), without decoding images."""

    @property
    def num_classes(self) -> int:
        """Number of classes k."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, in the order of the train ids."""

    @property
    def palette(self) -> np.ndarray:
        """Colour of every class, uint8 (k, 3) RGB."""

    @property
    def own_classes(self) -> tuple[int, ...]:
        """Train ids that the labels may contain; a taxonomy of several datasets has classes beside them."""


class LabelledClasses:
    """Base of sources: the facts about classes that follow from the label map; no soft labels."""

    label_map: LabelMap | None
    top_k: int = 0

    @property
    def num_classes(self) -> int:
        """Number of classes k; 0 without a label map."""
        return self.label_map.num_classes if self.label_map else 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, in the order of the train ids."""
        return self.label_map.class_names if self.label_map else ()

    @property
    def palette(self) -> np.ndarray:
        """Colour of every class, uint8 (k, 3) RGB."""
        return self.label_map.palette if self.label_map else np.zeros((0, 3), np.uint8)

    @property
    def own_classes(self) -> tuple[int, ...]:
        """Train ids that the labels may contain: all of them."""
        return tuple(range(self.num_classes))


class SourceView:
    """Base of views of a source: what a view does not define is that of the source."""

    def __init__(self, source: Source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "source":  # not set yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)


class FolderSource(LabelledClasses):
    """Images, with or without masks, read directly from files: for prediction and checks, without a build.

    images: a folder, one file, or a list of files.
    masks: folder of the masks, paired by relative path without extension; None = records have no label.
    label_map: LabelMap, class table, its name, or a JSON file; required with masks.
    image_prefix, image_suffix, mask_prefix, mask_suffix: what the names add to the common part.

    What lies in the folders and is not read is counted and named in a warning.

    Raises UserError for files that do not exist or are no images, images without mask, and masks without label_map.
    """

    def __init__(
        self,
        images: str | os.PathLike | Sequence[str | os.PathLike],
        masks: str | os.PathLike | None = None,
        label_map: LabelMap | ClassTable | str | os.PathLike | None = None,
        *,
        image_prefix: str = "",
        image_suffix: str = "",
        mask_prefix: str = "",
        mask_suffix: str = "",
    ):
        self.label_map = None if label_map is None else LabelMap.open(label_map)
        self._masks: list[Path] | None = None
        if masks is None:
            files = _image_files(images, image_prefix, image_suffix)
            self._names, self._images = list(files), list(files.values())
            return
        if self.label_map is None:
            raise UserError(
                f"masks {masks} need a label map to become classes; give label_map=FILE.json (`segjax check_data` "
                "writes one) or the name of a class table"
            )
        naming = dict(image_prefix=image_prefix, image_suffix=image_suffix)
        naming.update(mask_prefix=mask_prefix, mask_suffix=mask_suffix)
        pairs = pair_or_propose(images, masks, **naming)
        if pairs.images_without_mask:
            proposal = better_pairs(pairs, images, masks, **naming)
            lonely = [path for _, path in pairs.images_without_mask]
            raise UserError(
                f"{len(lonely)} images in {images} have no mask in {masks} ({some(map(shown, lonely))}); "
                + (proposal.sentence() if proposal else "add the masks, remove the images, or give mask_suffix")
            )
        without = [shown(path) for _, path in pairs.masks_without_image]
        if without:
            log.warning("%s ignored for lack of an image: %s", are(len(without), "mask"), some(without))
        _warn(pairs.ignored)
        self._names = [key for key, _, _ in pairs.pairs]
        self._images = [image for _, image, _ in pairs.pairs]
        self._masks = [mask for _, _, mask in pairs.pairs]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        image = read_image(self._images[index])
        label = None if self._masks is None else self._read_label(index, image.shape[:2])
        sequence, frame = split_frame(self._names[index])
        if frame is None:
            frame = range(len(self))[index]
        return Record(image, label, self._names[index], sequence, frame)

    def label(self, index: int) -> np.ndarray | None:
        """Returns the label of a record, without decoding its image; None without masks."""
        return None if self._masks is None else self._read_label(index, image_size(self._images[index]))

    def _read_label(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return read_label(self._masks[index], self.label_map, size, str(self._images[index]))

    @property
    def names(self) -> list[str]:
        """Relative paths without extension."""
        return self._names

    @property
    def files(self) -> list[Path]:
        """The image files, in the order of the records."""
        return self._images

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of the images, int32 (n, 2), from their headers."""
        return np.array([image_size(path) for path in self._images], np.int32).reshape(-1, 2)


def read_label(mask_file: Path, label_map: LabelMap, size: tuple[int, int], image_file: str) -> np.ndarray:
    """Reads a mask file as train ids uint8 (h, w).

    size: (h, w) of the image. image_file: its name, for the error.
    Raises UserError for a mask that is damaged, of another size, or with values that the label map lacks.
    """
    mask = read_mask(mask_file, coding=label_map.coding, transparent=label_map.transparent)
    check_size(mask.shape[:2], str(mask_file), size, image_file)
    return label_map.encode(mask, str(mask_file))


def check_size(mask_size: tuple[int, int], mask_file: str, size: tuple[int, int], image_file: str) -> None:
    """Raises UserError unless a mask has the size (h, w) of its image."""
    if tuple(mask_size) != tuple(size):
        turned = "; is the image turned by its EXIF orientation?" if tuple(mask_size) == tuple(size)[::-1] else ""
        raise UserError(
            f"{mask_file} is {mask_size[1]}x{mask_size[0]} but its image {image_file} is {size[1]}x{size[0]}"
            f"{turned}; export the mask at the size of the image"
        )


def _warn(ignored: Ignored) -> None:
    for sentence in ignored.sentences():
        log.warning("%s", sentence)


def _image_files(images: str | os.PathLike | Sequence[str | os.PathLike], prefix: str, suffix: str) -> dict[str, Path]:
    if isinstance(images, (str, os.PathLike)):
        path = Path(images).expanduser()
        if path.is_dir() or ("*" in str(path) and not path.exists()):
            listing = find_images(path, prefix=prefix, suffix=suffix)
            _warn(listing.ignored)
            return listing.files
        images = [path]
    files: dict[str, Path] = {}
    for path in map(Path, images):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{path} is not an image; known types are {', '.join(IMAGE_SUFFIXES)}")
        if not path.is_file():
            raise UserError(f"{path} does not exist; check the path")
        key = path.with_suffix("").name
        files[key if key not in files else path.with_suffix("").as_posix()] = path
    if not files:
        raise UserError("there is no image to read; give a folder, a file or a list of files")
    return files
