"""Frames by (sequence, frame number), and their neighbours: in a dataset, a folder of frames or a video file."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segjax.data.chains import FrameTable, places_of, smallest_distance
from segjax.data.file_limits import check_regular
from segjax.data.folders import split_frame
from segjax.data.sources import FolderSource, LabelledClasses, Record, Source
from segjax.data.tfds_index import Index
from segjax.data.video_file import VIDEO_SUFFIXES, open_video
from segjax.errors import UserError

log = logging.getLogger("segjax")
_READ_ON = 32  # up to this many frames ahead, decoding those between is faster than seeking a key frame


class FrameIndex:
    """The neighbours of n frames.

    source: a source, opened with its unlabelled frames, or a table of frames (`FrameTable`).
    step: difference between the numbers of two neighbouring frames, for example 2 if every second frame of a video is
        stored; by default the smallest that occurs.

    Raises UserError if two frames share a number, for a step below 1, and, without a step, if no frame has a neighbour.
    """

    def __init__(self, source: Source | FrameTable, *, step: int | None = None):
        self.source = source
        self.table = frame_table(source)
        self._places, _ = places_of(self.table)
        self.step = step or smallest_distance(self.table)
        if self.step < 1:
            raise UserError(f"step={step} must be 1 or more, the difference between the numbers of neighbours.")

    def find(self, sequence: str, frame: int) -> int | None:
        """Returns the record of a frame, None if it does not exist."""
        return self._places.get((sequence, frame))

    def neighbour(self, record: int, offset: int) -> int | None:
        """Returns the record `offset` steps later (earlier if negative), None if it does not exist."""
        return self.find(self.table.sequences[record], int(self.table.frames[record]) + offset * self.step)

    def groups(self, offsets: Sequence[int] = (-1, 0, 1)) -> np.ndarray:
        """Returns the records (m, k) of the frames with neighbours of one size at all k offsets, in table order."""
        rows = [[self.neighbour(record, offset) for offset in offsets] for record in range(len(self.table.names))]
        return np.array([row for row in rows if self._fit(row)], np.int32).reshape(-1, len(offsets))

    def missing(self, offsets: Sequence[int] = (-1, 0, 1)) -> list[str]:
        """Returns the names of the frames that lack a neighbour, or have one of another size."""
        rows = ((record, [self.neighbour(record, o) for o in offsets]) for record in range(len(self.table.names)))
        return [str(self.table.names[record]) for record, row in rows if not self._fit(row)]

    def _fit(self, row: Sequence[int | None]) -> bool:
        return None not in row and len({tuple(self.table.sizes[record]) for record in row}) == 1


def frame_table(source: Any) -> FrameTable:
    """Returns the facts about a source's frames that need no frame decoded."""
    if hasattr(source, "frames") and hasattr(source, "sequences"):
        return source
    if hasattr(source, "index"):
        return source.index
    names = source.names
    found = [split_frame(name) for name in names]
    return Index(
        names=np.array(names, str),
        sequences=np.array([sequence for sequence, _ in found], str),
        frames=np.array([i if frame is None else frame for i, (_, frame) in enumerate(found)], np.int32),
        sizes=np.asarray(source.sizes),
        labelled=np.full(len(names), bool(getattr(source, "_masks", None))),
    )


class VideoSource(LabelledClasses):
    """The frames of video files, without labels; records are named "<file>_000012".

    Consecutive frames are decoded once; any other frame is sought in the file. Frames are counted when a file is
    opened, because headers may state more. Keep decoded frames with `CachedSource`.

    Raises UserError for files that do not exist, are no videos, or contain no frame.
    """

    label_map = None

    def __init__(self, files: Sequence[str | os.PathLike]):
        self._files = [Path(file) for file in files]
        rows, sizes = [], []
        for file in self._files:
            count, size = _measure(file)
            rows += [(file, frame) for frame in range(count)]
            sizes += [size] * count
        if not rows:
            raise UserError(f"there is no frame in {', '.join(map(str, files)) or 'no file'}; give video files.")
        self._rows = rows
        stems = [file.stem for file in self._files]
        keys = {f: f.stem if stems.count(f.stem) == 1 else f.with_suffix("").as_posix() for f in self._files}
        self.index = Index(
            names=np.array([f"{keys[file]}_{frame:06d}" for file, frame in rows], str),
            sequences=np.array([keys[file] for file, _ in rows], str),
            frames=np.array([frame for _, frame in rows], np.int32),
            sizes=np.array(sizes, np.int32).reshape(-1, 2),
            labelled=np.zeros(len(rows), bool),
        )
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[Any, int]] = {}  # file -> (capture, number of the next frame)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        file, frame = self._rows[index]
        with self._lock:
            image = self._read(file, frame)
        if image is None:
            raise UserError(f"frame {frame} of {file} cannot be read; convert the video to another format.")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return Record(image, None, str(self.index.names[index]), str(self.index.sequences[index]), frame)

    def label(self, index: int) -> None:
        """Returns None: frames of a video file have no labels."""

    def _read(self, file: Path, frame: int) -> np.ndarray | None:
        capture, position = self._open.get(file, (None, 0))
        if capture is None:
            capture = open_video(file)
        if not position <= frame <= position + _READ_ON:
            capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
            position = frame
        while position < frame:
            capture.grab()
            position += 1
        good, image = capture.read()
        self._open[file] = (capture, position + 1)
        return image if good else None

    @property
    def names(self) -> list[str]:
        """Names of the frames."""
        return self.index.names.tolist()

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the frames, int32 (n, 2)."""
        return self.index.sizes

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def open_frames(path: str | os.PathLike) -> Source:
    """Opens a user's frames: a video file, a folder of video files, or a folder of numbered images.

    Raises UserError for a path that does not exist, and for files that cannot be read.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{path} does not exist; give a video file, or a folder of videos or numbered frames.")
    check_regular(path)
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource([path])
    videos = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES) if path.is_dir() else []
    return VideoSource(videos) if videos else FolderSource(path)


def _measure(file: Path) -> tuple[int, tuple[int, int]]:
    """Returns the number of frames that can be read, and their (h, w)."""
    capture = open_video(file)
    size = (int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)))
    promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    if promised > count + 1:  # complete files may state one more
        log.warning("%s ends early: %d of its %d frames can be read", file, count, promised)
    return count, size
