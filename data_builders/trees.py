"""Published trees of image and label files: folders that are found, files that are paired, counts and disk space.

All is checked before the first image is read, except the content of the files. Each problem is one sentence.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from data_builders.about import About
from segjax.data.folders import fingerprint, list_images, some
from segjax.errors import UserError


class Item(NamedTuple):
    """The files of one record.

    name: of the record.
    image: file of the image, or a video.
    label: None = not labelled.
    sequence: name of its video, "" for none.
    frame: number in the sequence, None = position in the split.
    instances: None = no instance map.
    place: position of the frame if `image` is a video, else None.
    """

    name: str
    image: Path
    label: Path | None = None
    sequence: str = ""
    frame: int | None = None
    instances: Path | None = None
    place: int | None = None


@dataclasses.dataclass(eq=False)
class TreeConfig(tfds.core.BuilderConfig):
    """Options of a builder that reads a published tree.

    source_dir: folder of the published files; "" = the environment variable SEGJAX_<NAME>.
    partial: whether to accept any number of images. Otherwise it must be the published one, so that a half-unpacked
        archive is noticed, and the build remains valid after its published files are moved or deleted.
    """

    name: str = "default"
    source_dir: str = ""
    partial: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """Options that do not name the build: with all published files, their place does not change the records."""
        return () if self.partial else ("source_dir",)

    def fingerprint(self) -> str:
        """Returns a fingerprint of a partial tree's files, "" for a complete tree, whose files never change.

        Raises UserError for partial=True without source_dir.
        """
        if not self.partial:
            return ""
        folder = Path(self.source_dir).expanduser()
        if not self.source_dir or not folder.is_dir():
            raise UserError(f"partial=True needs the option source_dir, the folder of the files; it is {str(folder)!r}")
        files = [Path(base, name) for base, _, names in os.walk(folder, followlinks=True) for name in names]
        return fingerprint(files, root=folder)


def root(about: About, config: TreeConfig) -> Path:
    """Returns the folder of the published files. Raises UserError if none is given or it does not exist."""
    given = config.source_dir or os.environ.get(about.variable, "")
    if not given:
        raise UserError(
            f"{about.title} is not built yet and must be downloaded by hand: get {', '.join(about.archives)} from "
            f"{about.homepage} and name its folder in the option source_dir or in ${about.variable} ({about.readme})"
        )
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(f"folder {folder} of {about.title} does not exist; correct source_dir or ${about.variable}")
    return folder


def folder(about: About, base: Path, *choices: str) -> Path:
    """Returns the first of these subfolders that exists.

    Raises UserError with the expected folder, and with the archive to download again or to unpack.
    """
    for choice in choices:
        if (base / choice).is_dir():
            return base / choice
    for archive, size in about.archives.items():
        path = base / archive
        started = [*base.glob(f"{archive}.*")] if not path.is_file() else []
        if started or (path.is_file() and not _whole(path, size)):
            name = started[0] if started else path
            raise UserError(
                f"{name} is a download that was not finished ({name.stat().st_size} bytes); download it again from "
                f"{about.homepage} and unpack it in {base}"
            )
        if path.is_file():
            raise UserError(f"{about.title} needs the folder {base / choices[0]}; unpack {path} in {base}")
    raise UserError(
        f"{about.title} needs the folder {base / choices[0]}, which does not exist; source_dir is the folder in which "
        f"{', '.join(about.archives)} are unpacked ({about.readme} shows the tree)"
    )


def _whole(archive: Path, size: int) -> bool:
    if size and archive.stat().st_size != size:
        return False
    if archive.suffix == ".tgz":
        try:
            with gzip.open(archive) as stream:
                while stream.read(1 << 20):
                    pass
        except (EOFError, OSError, zlib.error):
            return False
    return archive.suffix != ".zip" or zipfile.is_zipfile(archive)


def pair(
    images: Path,
    labels: Path | None,
    *,
    image_suffix: str = "",
    label_suffix: str = "",
    instances: tuple[Path, str] | None = None,
    parse: Callable[[str], tuple[str, int | None]] = lambda stem: ("", None),
) -> list[Item]:
    """Returns the records of two folders of equal names, in natural order.

    images: folder of the images.
    labels: folder of the labels, None = no record is labelled.
    image_suffix, label_suffix: ends of file names after their common part.
    instances: (folder, suffix) of the instance maps, None for none.
    parse: stem -> (sequence, frame).

    Raises UserError for images without label, and labels without image.
    """
    files = list_images(images, suffix=image_suffix)
    masks = list_images(labels, suffix=label_suffix) if labels else {}
    maps = list_images(instances[0], suffix=instances[1]) if instances else {}
    if labels:
        _same_keys(files, masks, images, labels, label_suffix)
    if instances:
        _same_keys(files, maps, images, instances[0], instances[1])
    items = []
    for key, path in files.items():
        stem = key.rpartition("/")[2]
        sequence, frame = parse(stem)
        items.append(Item(stem, path, masks.get(key), sequence, frame, maps.get(key)))
    return items


def _same_keys(images: Mapping[str, Path], others: Mapping[str, Path], at: Path, other: Path, suffix: str) -> None:
    lonely = [images[key] for key in images if key not in others]
    if lonely:
        what = f"{len(lonely)} of {len(images)} images in {at} have no file NAME{suffix}.png in {other}"
        raise UserError(f"{what} ({some(lonely)}); unpack both archives again")
    lonely = [others[key] for key in others if key not in images]
    if lonely:
        what = f"{len(lonely)} of {len(others)} files in {other} have no image in {at}"
        raise UserError(f"{what} ({some(lonely)}); unpack both archives again")


def with_neighbours(
    items: Sequence[Item], frames: Mapping[tuple[str, int], Path | Item], reach: int, *, partial: bool
) -> list[Item]:
    """Returns labelled records and unlabelled neighbouring frames, ordered by video and frame.

    items: labelled records.
    frames: (sequence, frame) -> file or record.
    reach: number of frames before and after each labelled one.
    partial: whether frames may be missing.

    Raises UserError for missing frames, unless partial.
    """
    labelled = {(item.sequence, item.frame): item for item in items}
    wanted = {(s, f + offset) for s, f in labelled for offset in range(-reach, reach + 1) if f + offset >= 0}
    missing = sorted(key for key in wanted if key not in frames and key not in labelled)
    if missing and not partial:
        listed = some([f"{sequence} frame {frame}" for sequence, frame in missing])
        raise UserError(
            f"{len(missing)} frames within {reach} of a labelled one are missing ({listed}); unpack the sequences "
            "again, lower the option neighbours, or set partial=True"
        )
    chosen = []
    for sequence, frame in sorted(wanted - set(missing)):
        item = labelled.get((sequence, frame)) or frames[sequence, frame]
        if not isinstance(item, Item):
            item = Item(item.stem.removesuffix("_leftImg8bit"), item, None, sequence, frame)
        chosen.append(item)
    return chosen


def generators(
    builder: tfds.core.GeneratorBasedBuilder,
    about: About,
    splits: Mapping[str, Sequence[Item]],
    *,
    counted: bool = True,
) -> dict[str, Any]:
    """Returns the result of `_split_generators`, after checks of the number of images and the free space.

    builder: whose records are generated.
    about: with the published numbers of images.
    splits: split -> files of its records.
    counted: whether to check the numbers of images.

    Raises UserError for wrong numbers, unless partial, and for too little space.
    """
    if counted and not builder.builder_config.partial:
        for split, items in splits.items():
            expected = about.images.get(split)
            if expected is not None and len(items) != expected:
                raise UserError(
                    f"split {split} of {about.title} has {len(items)} images of {expected} under "
                    f"{items[0].image.parent if items else 'the given folder'}; unpack {', '.join(about.archives)} "
                    "again, or set the option partial=True to use what is there"
                )
    check_space([item for items in splits.values() for item in items], Path(builder.data_dir_root), about.title)
    return {split: builder._generate_examples(items) for split, items in splits.items()}


def check_space(items: Sequence[Item], target: Path, what: str) -> None:
    """Raises UserError unless the disk of `target` has space for copies of the files that are not there yet.

    A frame of a video is estimated at the mean size of the image files.

    items: of all splits.
    target: folder of the build.
    what: title of the dataset, for the error.
    """
    images = [x.image.stat().st_size for x in items if x.place is None]
    needed = sum(path.stat().st_size for x in items for path in (x.label, x.instances) if path is not None)
    needed += sum(images) * len(items) // max(len(images), 1)
    needed = int(needed * 1.05) + 2**20  # overhead of the format, and the index
    needed -= sum(path.stat().st_size for path in target.glob("shards/*"))  # of an interrupted preparation
    place = next(path for path in (target, *target.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{what} needs {needed / 1e9:.1f} GB in {target}, where {free / 1e9:.1f} GB are free; free space or choose "
            "another place with data_dir or SEGJAX_DATA_DIR"
        )
