"""Clips: images or a video file, as iterators of frames in order."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from segjax.data.file_limits import check_regular
from segjax.data.folders import natural_key
from segjax.data.image_files import IMAGE_SUFFIXES, read_image
from segjax.data.listing import are, scan, shown, some
from segjax.data.naming import composed
from segjax.data.video_file import VIDEO_SUFFIXES, open_video
from segjax.errors import UserError
from segjax.outputs import written_below

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture of a clip.

    name: relative path without suffix; files written for this frame are called so.
    index: position in the clip.
    image: uint8 (h, w, 3), RGB.
    """

    name: str
    index: int
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Images:
    """A clip of unrelated image files, whose sizes may differ.

    files: (name, path) in order.
    """

    files: Sequence[tuple[str, Path]]
    is_video = False

    def __len__(self) -> int:
        return len(self.files)

    def frames(self, *, on_error: Callable[[UserError], None]) -> Iterator[Frame]:
        """Yields the frames; a file that cannot be read is skipped and its error is passed to on_error."""
        for index, (name, path) in enumerate(self.files):
            try:
                image = read_image(path)
            except UserError as error:
                on_error(error)
                continue
            yield Frame(name, index, image)


@dataclasses.dataclass(frozen=True)
class Video:
    """A clip of one video file: frames of one size, in time order.

    name: relative path without suffix.
    fps: frames per second.
    count: number of frames according to the header; 0 = unknown.
    """

    name: str
    path: Path
    fps: float
    count: int
    is_video = True

    def __len__(self) -> int:
        return self.count

    def frames(self, *, on_error: Callable[[UserError], None]) -> Iterator[Frame]:
        """Yields the frames; if the video ends early, its error is passed to on_error after the last good frame."""
        try:
            capture = open_video(self.path)
        except UserError as error:
            on_error(error)
            return
        try:
            index = 0
            while True:
                good, image = capture.read()
                if not good:
                    break
                yield Frame(f"{self.name}/{index:06d}", index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            capture.release()
        if index == 0:
            on_error(UserError(f"{self.path} holds no frame that can be decoded; convert it to mp4 (H.264)"))
        elif index < self.count - 2:  # headers are often off by a frame or two
            on_error(UserError(f"{self.path} ends after {index} of {self.count} frames; copy or download it again"))


Clip = Images | Video


def open_clips(path: str | os.PathLike, *, exclude: str | os.PathLike | None = None) -> list[Clip]:
    """Opens one image, one video, or all images and videos under a folder as clips.

    The images of a folder are one clip, in natural order (2 before 10); every video is a clip of its own. A video of a
    folder that cannot be opened reports its error when its frames are read.

    path: file or folder.
    exclude: folder to skip, such as the one that results are written to.

    Raises UserError if nothing is found, or if the one video cannot be opened.
    """
    path = Path(path).expanduser()
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            return [_video(path.stem, path)]
        if suffix in IMAGE_SUFFIXES:
            return [Images(((path.stem, path),))]
        raise UserError(
            f"{path} is neither an image ({' '.join(IMAGE_SUFFIXES)}) nor a video ({' '.join(VIDEO_SUFFIXES)}); "
            "give one of these or a folder of them"
        )
    if not path.is_dir():
        check_regular(path)
        raise UserError(f"{path} does not exist; give an image, a video or a folder")
    files = _walk_folder(path, None if exclude is None else Path(exclude).expanduser().resolve())
    images = [(name, file) for name, file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    clips: list[Clip] = [Images(tuple(images))] if images else []
    clips += [_video(name, file, strict=False) for name, file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if not clips:
        raise UserError(
            f"folder {path} holds no image ({' '.join(IMAGE_SUFFIXES)}) and no video ({' '.join(VIDEO_SUFFIXES)})"
        )
    return clips


def _walk_folder(root: Path, exclude: Path | None) -> list[tuple[str, Path]]:
    """Lists (name, path) of the images and videos under a folder, and logs which files are ignored."""
    files, ignored = scan(root, IMAGE_SUFFIXES + VIDEO_SUFFIXES, exclude=exclude)
    folders = {folder for file in files for folder in file.parents if folder == root or root in folder.parents}
    ours = set().union(*map(written_below, folders))
    if mine := sorted(file for file in files if file in ours):
        names = some(shown(file.relative_to(root)) for file in mine)
        log.warning("%s: %s ignored, written by segjax: %s", shown(root), are(len(mine), "file"), names)
    for sentence in ignored.sentences(root=root):
        log.warning("%s: %s", shown(root), sentence.replace("(no images)", "(neither images nor videos)"))
    found = sorted(file for file in files if file not in ours)
    return sorted(_named(found, root), key=lambda item: natural_key(item[0]))


def _named(files: Sequence[Path], root: Path) -> list[tuple[str, Path]]:
    """Returns (name, path) of each file: its path in `root` without suffix, or with suffix if that is not unique.

    A video also keeps its suffix beside a folder of its name, because its frames are written into such a folder.

    Raises UserError if two names are the same all the same.
    """
    whole = {file: file.relative_to(root) for file in files}
    folders = {_same(parent) for path in whole.values() for parent in path.parents}
    names = {file: path.with_suffix("") for file, path in whole.items()}
    while True:
        counts = collections.Counter(map(_same, names.values()))
        twice = [
            file
            for file, name in names.items()
            if counts[_same(name)] > 1 or (file.suffix.lower() in VIDEO_SUFFIXES and _same(name) in folders)
        ]
        if not (longer := {file: whole[file] for file in twice if names[file] != whole[file]}):
            break
        names.update(longer)
    if twice:
        raise UserError(f"{some(map(shown, twice))} would get the same names of outputs; rename all of them but one")
    return [(name.as_posix(), file) for file, name in names.items()]


def _same(name: object) -> str:
    """Returns what is equal for names that differ in case or in how accents are coded, as some file systems do."""
    return composed(str(name)).casefold()


def _video(name: str, path: Path, *, strict: bool = True) -> Video:
    try:
        capture = open_video(path)
    except UserError:
        if strict:
            raise
        return Video(name, path, 25.0, 0)
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    # some containers have no frame rate or count; 25 only sets the speed of videos written from it
    return Video(name, path, fps if 0 < fps < 1000 else 25.0, int(count) if 0 < count < 1e9 else 0)
