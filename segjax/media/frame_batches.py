"""Frames through a network: read ahead, grouped by size, computed while the previous ones are written."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from segjax.errors import UserError
from segjax.typing import Array


def same_size(frames: Iterable[Any], batch: int, *, limit: int = 4) -> Iterator[list[Any]]:
    """Yields groups of up to `batch` frames of one size; at most limit * batch frames wait for others of their size."""
    waiting: dict[tuple[int, int], list[Any]] = {}  # in the order of their first frame
    for frame in frames:
        group = waiting.setdefault(frame.image.shape[:2], [])
        group.append(frame)
        if len(group) == batch:
            yield waiting.pop(frame.image.shape[:2])
        elif sum(map(len, waiting.values())) >= limit * batch:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def in_order(frames: Iterable[Any], batch: int) -> Iterator[list[Any]]:
    """Yields groups of up to `batch` consecutive frames of one size."""
    group: list[Any] = []
    for frame in frames:
        if group and (len(group) == batch or frame.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(frame)
    if group:
        yield group


class FilledBatches:
    """A function of images whose incomplete batches are filled up by repeating the last frame.

    A batch is filled only if the function was compiled for a full batch of that image size before.

    function: images uint8 (b, h, w, 3) -> array (b, ...) or tree of such arrays, for example `inference.Labels`.
    batch: number of images in a full batch.
    """

    def __init__(self, function: Callable[[Array], Any], batch: int):
        self._function, self._batch = function, batch
        self._full: set[tuple[int, int]] = set()

    def __call__(self, frames: Sequence[Any]) -> Any:
        """Returns the result for frames of one size; rows beyond the given frames belong to repeated ones."""
        size = frames[0].image.shape[:2]
        images = [frame.image for frame in frames]
        if len(frames) == self._batch:
            self._full.add(size)
        elif size in self._full:
            images += images[-1:] * (self._batch - len(frames))
        return self._function(np.stack(images))


def predictions(
    run: FilledBatches, groups: Iterable[list[Any]], *, on_error: Callable[[list[Any], UserError], None] | None = None
) -> Iterator[tuple[list[Any], Any]]:
    """Yields (n frames, result) of every group; the next group is started before a result is waited for.

    The result is that of `run` as numpy arrays (n, ...): class ids, or a tree of arrays such as `inference.Labels`.

    run: the network.
    groups: lists of frames of one size.
    on_error: receives the frames of a group that the network refuses, and the error; the group is then skipped.

    Raises UserError if the network refuses a group and there is no on_error.
    """
    running = None
    for group in groups:
        try:
            started = group, run(group)
        except UserError as error:
            height, width = group[0].image.shape[:2]  # the error may be about a scale of it, or a crop
            error = UserError(f"{str(error).rstrip('.')}; the image is {width}x{height}")
            if on_error is None:
                raise error from None
            on_error(group, error)
            continue
        if running:
            yield _finished(*running)
        running = started
    if running:
        yield _finished(*running)


def _finished(frames: list[Any], result: Any) -> tuple[list[Any], Any]:
    """Waits for a result and returns it, without the rows of repeated frames, with the frames."""
    return frames, jax.tree.map(lambda rows: rows[: len(frames)], jax.device_get(result))


def ahead(items: Iterable, *, depth: int) -> Iterator:
    """Yields the items of an iterable that a thread reads up to `depth` items ahead; its errors are raised here."""
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
        except BaseException as error:  # noqa: BLE001 (raised again in the consumer)
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
