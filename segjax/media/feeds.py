"""Feeds: frames of a file, a folder, a camera or an address, in their order or only the newest of them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from segjax.errors import UserError
from segjax.media.clips import Clip, open_clips

log = logging.getLogger("segjax")

WAITS = (1.0, 2.0, 4.0)  # seconds before each attempt to open a camera or an address again
USUAL_FPS = 25.0  # of feeds that do not say it


@dataclasses.dataclass(frozen=True)
class Shot:
    """One frame of a feed.

    name: for files that are written of it.
    index: position in the feed; numbers of frames that were dropped are missing.
    time: when it was taken, seconds of `time.monotonic`.
    image: uint8 (h, w, 3), RGB.
    """

    name: str
    index: int
    time: float
    image: np.ndarray


class FileFeed:
    """The frames of a video, or of a folder of images in the order of their names.

    clip: see `media.clips`.
    paced: whether each frame comes at its time, as from a camera.
    """

    def __init__(self, clip: Clip, *, paced: bool = False):
        self.clip, self.paced = clip, paced
        self.fps = clip.fps if clip.is_video else USUAL_FPS

    def shots(self, problem: Callable[[str], None]) -> Iterator[Shot]:
        """Yields the frames; problem: called with a sentence for each file or frame that cannot be read."""
        begin = time.monotonic()
        for frame in self.clip.frames(on_error=lambda error: problem(str(error))):
            due = begin + frame.index / self.fps
            if self.paced:
                time.sleep(max(due - time.monotonic(), 0.0))
            name = frame.name.rpartition("/")[2] if self.clip.is_video else frame.name
            yield Shot(name, frame.index, due if self.paced else time.monotonic(), frame.image)


class DeviceFeed:
    """The frames of a camera or an address. If it stops, it is opened again, and the feed ends if that fails.

    source: number of a camera, or an address such as rtsp://.
    Raises UserError if it does not open.
    """

    def __init__(self, source: int | str, *, waits: tuple[float, ...] = WAITS):
        self.source, self._waits = source, waits
        capture = self._open()
        if capture is None:
            raise UserError(f"{self} does not open, after {len(waits) + 1} attempts; check that it is connected.")
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps, self._capture = fps if 0 < fps < 1000 else USUAL_FPS, capture
        self._count = capture.get(cv2.CAP_PROP_FRAME_COUNT)  # of a video at an address; 0 or less of what has no end

    def __str__(self) -> str:
        return f"camera {self.source}" if isinstance(self.source, int) else str(self.source)

    def _open(self) -> cv2.VideoCapture | None:
        for wait in (0.0, *self._waits):
            time.sleep(wait)
            capture = cv2.VideoCapture(self.source)
            if capture.isOpened():
                return capture
            capture.release()
        return None

    def shots(self, problem: Callable[[str], None]) -> Iterator[Shot]:
        """Yields the frames; problem: called with a sentence when the feed stops and does not go on."""
        index, opened_at, capture = 0, 0, self._capture
        try:
            while True:
                good, image = capture.read()
                if good:
                    yield Shot(f"{index:06d}", index, time.monotonic(), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                    index += 1
                    continue
                if 0 < self._count <= index + 2:  # headers are often off by a frame or two
                    return
                capture.release()
                log.warning("%s stopped after %d frames and is opened again", self, index)
                # one that opens and has no frame would be opened for ever
                found = self._open() if index > opened_at else None
                if found is None:
                    problem(f"{self} stopped after {index} frames and did not go on")
                    return
                opened_at, capture = index, found
        finally:
            capture.release()


Feed = FileFeed | DeviceFeed


def open_feed(text: str, *, live: bool = False) -> Feed:
    """Opens the frames that a command names: a file, a folder, the number of a camera, or an address.

    live: whether frames of a file come at their time.

    Raises UserError for what does not exist or open, and for a folder with several videos.
    """
    if text.isdecimal():
        return DeviceFeed(int(text))
    if "://" in text:
        return DeviceFeed(text)
    clips = open_clips(Path(text))
    if len(clips) > 1:
        raise UserError(f"{text} contains {len(clips)} videos, or both images and videos; give one of them")
    return FileFeed(clips[0], paced=live)


class Newest:
    """The newest frame of a feed, which a thread reads; older ones that nobody took are dropped and counted.

    dropped: number of frames that nobody took.
    """

    def __init__(self, feed: Feed, problem: Callable[[str], None]):
        self.dropped = 0
        self._box: queue.Queue[Shot | BaseException | None] = queue.Queue(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(feed, problem), name="newest frame", daemon=True)
        self._thread.start()

    def _read(self, feed: Feed, problem: Callable[[str], None]) -> None:
        end: BaseException | None = None
        try:
            with contextlib.closing(feed.shots(problem)) as shots:
                for shot in shots:
                    if self._stop.is_set():
                        return
                    with contextlib.suppress(queue.Empty):
                        self._box.get_nowait()
                        self.dropped += 1
                    self._box.put(shot)
        except BaseException as error:  # noqa: BLE001 (raised again by the reader)
            end = error
        while not self._stop.is_set():  # the last frame stays until it is taken
            with contextlib.suppress(queue.Full):
                self._box.put(end, timeout=0.1)
                return

    def __iter__(self) -> Iterator[Shot]:
        while True:
            shot = self._box.get()
            if isinstance(shot, BaseException):
                raise shot
            if shot is None:
                return
            yield shot

    def newer(self, shot: Shot) -> Shot:
        """Returns the newest frame if one has come since `shot`, which is then dropped and counted; else `shot`."""
        try:
            found = self._box.get_nowait()
        except queue.Empty:
            return shot
        if not isinstance(found, Shot):
            self._box.put(found)  # the end, which comes after all frames
            return shot
        self.dropped += 1
        return found

    def close(self) -> None:
        """Ends the thread; a feed that waits for a frame is left alone."""
        self._stop.set()
        self._thread.join(timeout=1.0)
