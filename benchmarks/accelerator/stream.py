"""Frames per second of labels propagated from keyframes (Lee et al., GSVNet), frame in, ids out, one at a time."""

from __future__ import annotations

from benchmarks import video
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, rates, spread
from benchmarks.labelling import random_network

CLASSES = 19
SCALE = 0.75  # of keyframes, as the paper's on Cityscapes


def measure(part: str, context: Context) -> Figures:
    """part: name of the keyframe network, with random weights.

    Figures: milliseconds of a keyframe and of a frame between; frames per second of whole intervals, and of the
    keyframe network on every frame, in turns; and their ratio.
    """
    sizes = context.sizes
    network = video.with_random_propagation(random_network(part, CLASSES, context.dtype), "gsvnet", SCALE)
    found = video.times(network, sizes.video, sizes.interval, sizes.repeats)
    times = {kind: [wall for wall, _ in taken] for kind, taken in found.items()}
    n = sizes.interval
    between = [times["between"][i : i + n - 1] for i in range(0, len(times["between"]), n - 1)]
    intervals = [key + sum(rest) for key, rest in zip(times["key"], between, strict=True)]
    every = [sum(times["predict"][i : i + n]) for i in range(0, len(times["predict"]), n)]
    return {
        "keyframe, ms": spread(times["key"]),
        "frame between, ms": spread(times["between"]),
        f"frames/s, l={n}": rates(intervals, 1e3 * n),
        "frames/s, network on every frame": rates(every, 1e3 * n),
        "times as fast": spread(b / a for a, b in zip(intervals, every, strict=True)),
    }
