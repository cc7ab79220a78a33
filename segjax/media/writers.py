"""Files of pictures: PNG files, also written by threads, and mp4 videos."""

from __future__ import annotations

import collections
import concurrent.futures
import os
from pathlib import Path

import cv2
import numpy as np

from segjax.data.image_files import encode_png
from segjax.errors import UserError
from segjax.files import part_of, put, write_file, writing


def write_png(path: str | os.PathLike, picture: np.ndarray) -> Path:
    """Writes a PNG file, which appears when it is complete, and returns its path; the folder is made if needed.

    picture: uint8 or uint16 (h, w), or uint8 (h, w, 3), RGB.
    Raises UserError if the file cannot be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, encode_png(np.ascontiguousarray(picture)), durable=False)  # waiting costs more than encoding
    return path


class PngWriter:
    """A pool of threads that encode and write PNG files; at most `backlog` pictures wait, so memory stays constant."""

    def __init__(self, *, threads: int = 4, backlog: int = 16):
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="png")
        self._waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        self._backlog = backlog

    def write(self, path: str | os.PathLike, picture: np.ndarray) -> None:
        """Queues one picture, see `write_png`. Raises the error of an earlier picture if there was one."""
        while len(self._waiting) >= self._backlog:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(write_png, path, picture))

    def wait(self) -> None:
        """Returns when all queued pictures are written. Raises the first error among them."""
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> PngWriter:
        return self

    def __exit__(self, kind, *_) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            self.wait()


class VideoWriter:
    """A video file (MPEG-4) that frames are written to; it has a temporary name until it is complete.

    Frames of another size than the first are resized to it: a video has one size.

    fps: frames per second.
    growing: whether it has its name from the first frame on, for a container that can be read at any time (.mkv).
    Leaving the context raises UserError if the file is not whole, as on a full disk.
    """

    def __init__(self, path: str | os.PathLike, *, fps: float, growing: bool = False):
        self.path = Path(path)
        # OpenCV chooses the container by the suffix
        self._part = self.path if growing else part_of(self.path, suffix=self.path.suffix)
        self._fps, self._frames, self._size = fps, 0, (0, 0)
        self._writer: cv2.VideoWriter | None = None

    def write(self, picture: np.ndarray) -> None:
        """Appends one frame, uint8 (h, w, 3), RGB. Raises UserError if the file cannot be made."""
        if self._writer is None:
            with writing(self.path, remedy="give another folder"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._size = (picture.shape[1], picture.shape[0])
            self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter_fourcc(*"mp4v"), self._fps, self._size)
            if not self._writer.isOpened():
                self._writer = None  # no file was made
                raise UserError(
                    f"{self.path} cannot be written as {self.path.suffix[1:]}; check the folder, its permissions and "
                    "its space"
                )
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, *_) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if not self._complete():  # OpenCV does not report a full disk
            self._part.unlink(missing_ok=True)
            if kind is None:
                raise UserError(f"{self.path} cannot be written whole; free some space or give another folder")
            return
        if self._part != self.path:
            put(self._part, self.path)  # after an error too: the frames before it can be watched

    def _complete(self) -> bool:
        video = cv2.VideoCapture(str(self._part))
        try:
            return video.isOpened() and round(video.get(cv2.CAP_PROP_FRAME_COUNT)) >= self._frames
        finally:
            video.release()
