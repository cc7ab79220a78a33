"""A user's own video with labels of some of its frames, as a table of frames and a way to read them."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from segjax.data.folders import list_images, split_frame
from segjax.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from segjax.data.label_map import LabelMap
from segjax.data.sources import Record, read_label
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.inference.clips import Images, Video, open_clips


@dataclasses.dataclass(frozen=True)
class LabelledVideo:
    """The frames of one video, in order; a `FrameTable`, and `read` reads some of them.

    names, sequences, frames, sizes, labelled: see `FrameTable`. files: of the frames of a folder; of a video the file
    itself. masks: frame number -> file of its label. problems: what was left out, one sentence each. decode: positions
    of frames -> images.
    """

    names: list[str]
    sequences: list[str]
    frames: np.ndarray
    sizes: np.ndarray
    labelled: np.ndarray
    files: list[Path]
    masks: dict[int, Path]
    label_map: LabelMap
    problems: list[str]
    decode: Callable[[Sequence[int]], dict[int, np.ndarray]]

    def read(self, records: Sequence[int]) -> dict[int, Record]:
        """Decodes frames; of a video it is quick to ask for later and later ones."""
        images = self.decode(records)
        found = {}
        for record in records:
            if record not in images:
                raise UserError(f"{self.files[0]} has no frame {record} any more; do not change it while it is read.")
            number, label = int(self.frames[record]), None
            if number in self.masks:
                mask, size = self.masks[number], images[record].shape[:2]
                label = read_label(mask, self.label_map, size, f"frame {number} of {self.sequences[record]}")
            found[record] = Record(images[record], label, self.names[record], self.sequences[record], number)
        return found


def open_labelled_video(
    video: str | os.PathLike, labels: str | os.PathLike, label_map: LabelMap | str | os.PathLike
) -> LabelledVideo:
    """Finds the frames and their labels.

    video: a video file, whose frames are numbered from 0, or a folder of frames with numbers in their names.
    labels: a folder of masks, or one mask, named by the number of their frame: 120.png, frame_000120.png.
    Labels of frames that do not exist are left out and listed. Raises UserError when none is left, a name holds no
    number, two masks are of one frame, or a mask has another size than its frame.
    """
    label_map = LabelMap.open(label_map)
    masks = _masks(Path(labels).expanduser())
    clips = open_clips(video)
    if len(clips) != 1:
        raise UserError(f"--video={video} holds {len(clips)} clips (images and videos, or several videos); give one.")
    clip, problems = clips[0], []
    if isinstance(clip, Video):
        names, frames, sizes, files = _scan_video(clip, problems)
    else:
        names, frames, sizes, files = _scan_folder(clip)
    known = set(frames.tolist())
    for number in sorted(set(masks) - known):
        path = masks.pop(number)
        problems.append(f"{path} is of frame {number}, which {video} does not have ({_range(frames)})")
    if not masks:
        raise UserError(f"no label in {labels} is of a frame of {video} ({_range(frames)}): {problems[-1]}.")
    found = LabelledVideo(
        names=names,
        sequences=[clip.name if isinstance(clip, Video) else Path(video).name] * len(names),
        frames=frames,
        sizes=sizes,
        labelled=np.isin(frames, list(masks)),
        files=files,
        masks=masks,
        label_map=label_map,
        problems=problems,
        decode=VideoReader(files[0]) if isinstance(clip, Video) else functools.partial(_read_files, files),
    )
    _check_masks(found)
    return found


def _check_masks(found: LabelledVideo) -> None:
    # before anything is computed: all masks can be read, and are as large as their frames
    for record in np.flatnonzero(found.labelled):
        number = int(found.frames[record])
        read_label(found.masks[number], found.label_map, tuple(found.sizes[record]), f"frame {number}")


def _masks(path: Path) -> dict[int, Path]:
    if path.is_file():
        files = {path.stem: path}
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{path} is no mask; known types are {', '.join(IMAGE_SUFFIXES)}.")
    else:
        files = list_images(path)
    masks: dict[int, Path] = {}
    for key, file in files.items():
        number = split_frame(key)[1]
        if number is None:
            raise UserError(f"{file} has no frame number in its name; name masks by their frame, such as 000120.png.")
        if number in masks:
            raise UserError(f"{masks[number]} and {file} are both of frame {number}; keep one of them.")
        masks[number] = file
    return masks


def _scan_folder(clip: Images):
    numbers = [split_frame(name)[1] for name, _ in clip.files]
    for number, (_, path) in zip(numbers, clip.files):
        if number is None:
            raise UserError(f"{path} has no frame number in its name; name frames by their number, such as 000120.png.")
    sizes = np.array([image_size(path) for _, path in clip.files], np.int32).reshape(-1, 2)
    return [name for name, _ in clip.files], np.array(numbers, np.int64), sizes, [path for _, path in clip.files]


def _scan_video(clip: Video, problems: list[str]):
    # headers promise what files do not hold: count what can be decoded
    capture = cv2.VideoCapture(str(clip.path))
    try:
        good, first = capture.read()
        count = int(good)
        while good and capture.grab():
            count += 1
    finally:
        capture.release()
    if not count:
        raise UserError(f"{clip.path} holds no frame that can be decoded; convert it to mp4 (H.264).")
    if count < len(clip) - 2:  # headers are often wrong by a frame or two
        problems.append(f"{clip.path} ends after {count} of {len(clip)} frames")
    sizes = np.tile(np.int32(first.shape[:2]), (count, 1))
    return [f"{clip.name}_{number:06d}" for number in range(count)], np.arange(count), sizes, [clip.path]


def _read_files(files: Sequence[Path], records: Sequence[int]) -> dict[int, np.ndarray]:
    return dict(zip(records, ordered_map(lambda i: read_image(files[i]), records)))


class VideoReader:
    """Reads frames of a video file by number, going forward only, as seeking is inexact in many files.

    The frames of the last call are kept; asking for an earlier one starts again.
    """

    def __init__(self, path: Path):
        self._path, self._kept = path, {}
        self._capture, self._next = cv2.VideoCapture(str(path)), 0

    def __call__(self, records: Sequence[int]) -> dict[int, np.ndarray]:
        """number -> uint8 (h, w, 3) RGB, without those that the file does not hold."""
        found = {number: self._kept[number] for number in records if number in self._kept}
        for number in sorted(set(records) - set(found)):
            if number < self._next:
                self._capture.release()
                self._capture, self._next = cv2.VideoCapture(str(self._path)), 0
            image = self._frame(number)
            if image is None:
                break
            found[number] = image
        self._kept = found
        return found

    def _frame(self, number: int) -> np.ndarray | None:
        while self._next <= number:
            if not self._capture.grab():
                return None
            self._next += 1
        good, image = self._capture.retrieve()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if good else None


def _range(frames: np.ndarray) -> str:
    return f"{len(frames)} frames, {int(frames.min())} to {int(frames.max())}"
