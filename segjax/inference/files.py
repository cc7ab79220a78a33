"""Predicts images, folders and videos, and writes overlays and label images, with constant memory."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segjax import visualize
from segjax.errors import UserError, did_you_mean
from segjax.inference.clips import Clip, Frame
from segjax.inference.writers import PngWriter, VideoWriter, write_png
from segjax.typing import Array

KINDS = ("overlay", "ids", "color")


@dataclasses.dataclass(frozen=True)
class FilesReport:
    """What `predict_files` did.

    images: frames predicted. seconds: wall time, the first compilation included. sizes: (h, w) -> frames.
    problems: inputs that could not be predicted, a sentence each. outputs: what was written, one folder or video each.
    """

    images: int
    seconds: float
    sizes: dict[tuple[int, int], int]
    problems: tuple[str, ...]
    outputs: tuple[Path, ...]


def predict_files(
    predict_fn: Callable[[Array], Array],
    clips: Sequence[Clip],
    output: str | os.PathLike,
    *,
    palette: np.ndarray,
    class_names: Sequence[str] = (),
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
    write: Sequence[str] = ("overlay", "ids"),
    batch: int = 1,
    alpha: float = 0.5,
    progress: Callable[[int], None] | None = None,
) -> FilesReport:
    """Predicts every frame of every clip and writes the results into a folder.

    predict_fn: images uint8 (b, h, w, 3) -> class ids (b, h, w). Frames of one size are put together up to `batch`;
        each size compiles once, and an incomplete last batch is filled up rather than compiled again.
    write: "overlay" -> overlay/NAME.png, or NAME.mp4 for a video; "ids" -> ids/NAME.png, class ids passed through
        `decode` (to the raw ids of the data set); "color" -> color/NAME.png. A legend.png names the colours.
    palette: uint8 (k, 3). alpha: share of the class colour in overlays. progress: called with the frames done so far.

    Reading, device work and writing overlap. Inputs that cannot be read, or that the network cannot take, are listed in
    the report; the rest is written.
    """
    for kind in write:
        if kind not in KINDS:
            raise UserError(f"write names {kind!r}, which is no kind of output.{did_you_mean(kind, KINDS)}")
    if batch < 1:
        raise UserError(f"batch is {batch}; give at least 1")
    output = Path(output)
    problems: list[str] = []
    outputs: dict[Path, None] = {}
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    run = _FilledBatches(predict_fn, batch)
    begin = time.perf_counter()

    with PngWriter() as pngs:
        for clip in clips:
            with contextlib.ExitStack() as stack:
                video = None
                if clip.is_video and "overlay" in write:
                    video = stack.enter_context(VideoWriter(output / f"{clip.name}.mp4", fps=clip.fps))

                def save(frames: Sequence[Frame], ids: Array, video=video):
                    for frame, labels in zip(frames, np.asarray(ids)):
                        for kind in write:
                            picture = _picture(kind, frame.image, labels, palette, decode, alpha)
                            if kind == "overlay" and video is not None:
                                video.write(picture)
                                outputs[video.path] = None
                            else:
                                pngs.write(output / kind / f"{frame.name}.png", picture)
                                outputs[output / kind] = None
                        sizes[frame.image.shape[:2]] += 1
                        if progress:
                            progress(sum(sizes.values()))

                frames = clip.frames(on_error=lambda error: problems.append(str(error)))
                running = None
                with contextlib.closing(_ahead(frames, depth=2 * batch)) as read:
                    for group in same_size(read, batch):
                        try:
                            started = group, run(group)
                        except UserError as error:  # this network cannot take images of this size
                            problems.extend(f"{frame.name}: {error}" for frame in group)
                            continue
                        if running:
                            save(*running)
                        running = started
                if running:
                    save(*running)
    if class_names and outputs:
        width = 120 * min(len(class_names), 8)
        border = ((visualize.GAP, visualize.GAP), (visualize.GAP, 0), (0, 0))
        picture = np.pad(visualize.legend(class_names, palette, width=width), border, constant_values=255)
        write_png(output / "legend.png", picture)
    seconds = time.perf_counter() - begin
    return FilesReport(sum(sizes.values()), seconds, dict(sizes), tuple(problems), tuple(outputs))


def same_size(frames: Iterable[Frame], batch: int, *, limit: int = 4) -> Iterator[list[Frame]]:
    """Groups of up to `batch` frames of one size; at most `limit` * batch frames wait for others of their size."""
    waiting: dict[tuple[int, int], list[Frame]] = {}  # in the order of their first frame
    for frame in frames:
        group = waiting.setdefault(frame.image.shape[:2], [])
        group.append(frame)
        if len(group) == batch:
            yield waiting.pop(frame.image.shape[:2])
        elif sum(map(len, waiting.values())) >= limit * batch:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


class _FilledBatches:
    """Calls predict_fn with batches of a size it was compiled for, where there is one, by repeating the last frame."""

    def __init__(self, predict_fn: Callable[[Array], Array], batch: int):
        self._predict_fn, self._batch = predict_fn, batch
        self._full: set[tuple[int, int]] = set()

    def __call__(self, frames: Sequence[Frame]) -> Array:
        size = frames[0].image.shape[:2]
        images = [frame.image for frame in frames]
        if len(frames) == self._batch:
            self._full.add(size)
        elif size in self._full:
            images += images[-1:] * (self._batch - len(frames))
        return self._predict_fn(np.stack(images))


def _picture(kind, image, labels, palette, decode, alpha) -> np.ndarray:
    if kind == "overlay":
        return visualize.overlay(image, labels, palette, alpha=alpha)
    if kind == "color":
        return visualize.colorize(labels, palette)
    return labels if decode is None else decode(labels)


def _ahead(items: Iterable, *, depth: int) -> Iterator:
    """Runs an iterator in a thread, up to `depth` items ahead; its errors are raised here."""
    done, stop, box = object(), threading.Event(), queue.Queue(depth)

    def put(item) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                box.put(item, timeout=0.1)
                return True
        return False

    def work():
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((done, None))
        except BaseException as error:  # noqa: BLE001 (raised again where the items are used)
            put((done, error))

    thread = threading.Thread(target=work, name="frames", daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()
        thread.join()
