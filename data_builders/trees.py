"""Published trees of image and label files: finds the folders, pairs the files, checks counts and disk.

Everything is checked before the first image is read, except what is inside the files, and each problem is one sentence.
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
    """The files of one record. label: None = not labelled. frame: None = its position in the split.

    place: None, or image is a video and this the position of the picture in it.
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
    """source_dir: the folder of the published files; "" means the environment variable SEGJAX_<NAME>.

    partial: take the images that are there; else their number must be the published one, so that an archive that was
    unpacked by half is noticed. A complete data set stays built when its published files move or go.
    """

    name: str = "default"
    source_dir: str = ""
    partial: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """The options that say where the files are, not what they are: they do not make another build."""
        return () if self.partial else ("source_dir",)

    def fingerprint(self) -> str:
        """Changes with the files of a partial tree; complete ones are published once and for all."""
        if not self.partial:
            return ""
        folder = Path(self.source_dir).expanduser()
        if not self.source_dir or not folder.is_dir():
            raise UserError(f"partial=True needs the option source_dir, the folder of the files; it is {str(folder)!r}")
        files = [Path(base, name) for base, _, names in os.walk(folder, followlinks=True) for name in names]
        return fingerprint(files, root=folder)


def root(about: About, config: TreeConfig) -> Path:
    """Returns the folder of the published files; UserError when none is given or it is not there."""
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
    """Returns the first of these subfolders that is there; UserError names the one expected and what to unpack."""
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

    labels: None = no record is labelled. suffixes: what file names add to the common part. instances: folder and
    suffix of the instance maps. parse: stem -> (sequence, frame). Raises UserError for every image without label and
    label without image.
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
    """Returns the items and the frames up to `reach` before and after each, without label, ordered by video and frame.

    frames: (sequence, frame) -> file, or record. Raises UserError for a frame that is missing, unless partial.
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
    """Returns what `_split_generators` must, after the number of images and the free space have been checked."""
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
    """Raises UserError unless the disk of `target` has room for copies of all files that are not there yet.

    A frame of a video is taken to need as much as the image files do on the average.
    """
    images = [x.image.stat().st_size for x in items if x.place is None]
    needed = sum(path.stat().st_size for x in items for path in (x.label, x.instances) if path is not None)
    needed += sum(images) * len(items) // max(len(images), 1)
    needed = int(needed * 1.05) + 2**20  # the format's own bytes, and the index
    needed -= sum(path.stat().st_size for path in target.glob("shards/*"))  # of a preparation that was stopped
    place = next(path for path in (target, *target.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{what} needs {needed / 1e9:.1f} GB in {target}, where {free / 1e9:.1f} GB are free; free space or choose "
            "another place with data_dir or SEGJAX_DATA_DIR"
        )
