"""Times of labelling a stream: of keyframes, of frames between them, and of both with reading and drawing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segjax.inference.streaming import StreamSegmenter


def stream_times(
    stream: StreamSegmenter,
    read: Callable[[int], np.ndarray],
    count: int,
    draw: Callable[[np.ndarray, np.ndarray], Any],
) -> dict[str, Any]:
    """Labels `count` frames one by one, twice, and returns milliseconds and processor milliseconds of the second time.

    stream: whose programs are compiled here, before anything is timed.
    read: number -> frame uint8 (h, w, 3).
    draw: (frame, ids) -> picture.

    Returns {"key", "between", "frame", "with_drawing": {"p50", "p95", "mean", "cpu"}, "frames"}; from a frame in memory
    to its ids, for keyframes, other frames, and all; and from a frame on disk to its picture. A kind without frames
    is left out.
    """
    stream.prepare(read(0).shape[:2])
    for _ in range(2):  # the first time warms caches up
        stream.reset()
        kinds: dict[str, list[tuple[float, float]]] = {"key": [], "between": [], "frame": [], "with_drawing": []}
        for number in range(count):
            begin = time.perf_counter(), time.process_time()
            frame = read(number)
            start, before = (time.perf_counter(), time.process_time()), stream.counts.keyframes
            ids = stream(frame)
            took = time.perf_counter() - start[0], time.process_time() - start[1]
            draw(frame, ids)
            kinds["key" if stream.counts.keyframes > before else "between"].append(took)
            kinds["frame"].append(took)
            kinds["with_drawing"].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return {**{name: _summary(pairs) for name, pairs in kinds.items() if pairs}, "frames": count}


def _summary(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = (1e3 * np.array(values) for values in zip(*pairs))
    numbers = dict(p50=np.percentile(wall, 50), p95=np.percentile(wall, 95), mean=wall.mean(), cpu=cpu.mean())
    return {name: round(float(value), 3) for name, value in numbers.items()}
