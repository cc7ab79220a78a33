"""Where the pictures of a stream go: a video file, a folder of PNG files, or another program."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from segjax.errors import UserError
from segjax.media.writers import PngWriter, VideoWriter

Write = Callable[[str, np.ndarray, int], None]  # (name, picture uint8 (h, w, 3) or (h, w), times)
VIDEOS = (".mp4", ".mkv")


@contextlib.contextmanager
def open_sink(output: str, *, fps: float, stdout: BinaryIO | None = None) -> Iterator[Write]:
    """Opens what `--output` names, and yields a function that writes one picture.

    output: X.mp4, which appears when it is complete; X.mkv, which grows and can be read at any time, also after a kill;
        a folder, with a PNG file for each frame; or "-", MJPEG on the standard output.
    fps: of a video. A picture is written `times` times to a video, and once elsewhere.
    stdout: in place of that of the process.

    Raises UserError for another ending, and while writing if a file cannot be written.
    """
    check_sink(output)
    suffix = Path(output).suffix.lower()
    if output == "-":
        yield _mjpeg(stdout or sys.stdout.buffer)
    elif suffix:
        with VideoWriter(output, fps=fps, growing=suffix == ".mkv") as video:
            yield _repeated(video.write)
    else:
        with PngWriter() as pngs:
            yield lambda name, picture, times: pngs.write(Path(output) / f"{name}.png", picture)


def check_sink(output: str) -> None:
    """Raises UserError for an output that `open_sink` does not know."""
    if output != "-" and Path(output).suffix.lower() not in ("", *VIDEOS):
        raise UserError(f"--output={output} must end with .mp4 or .mkv, or be a folder, or - for another program")


def _repeated(write: Callable[[np.ndarray], None]) -> Write:
    def repeat(name: str, picture: np.ndarray, times: int) -> None:
        for _ in range(times):
            write(picture)

    return repeat


def _mjpeg(stream: BinaryIO) -> Write:
    def write(name: str, picture: np.ndarray, times: int) -> None:
        good, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        if not good:
            raise UserError(f"a picture of {picture.shape[1]}x{picture.shape[0]} cannot be written as JPEG.")
        stream.write(data.tobytes())
        stream.flush()

    return write


class InThread:
    """Runs calls one after the other in a thread, at most `depth` ahead; an error is raised by the next call."""

    def __init__(self, *, depth: int = 4):
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="drawing", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            if self._error is None:
                try:
                    call()
                except BaseException as error:  # noqa: BLE001 (raised again by the caller)
                    self._error = error

    def __call__(self, call: Callable[[], None]) -> None:
        """Queues a call. Raises the error of an earlier one."""
        if self._error is not None:
            raise self._error
        self._queue.put(call)

    def close(self) -> None:
        """Waits until all calls have run. Raises the error of one of them."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
