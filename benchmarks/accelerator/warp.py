"""Warps by optical flow, and their gradients, beside a copy that reads and writes as many bytes."""

from __future__ import annotations

from benchmarks import clock, warps
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, ratios, walls
from benchmarks.accelerator.figures import rates as per_second


def measure(part: str, context: Context) -> Figures:
    """part: "N channels" of the image.

    Figures: GB per second of the bilinear warp, counting the bytes that must be moved; and of each warp, how many times
    the copy's time it takes, over the turns.
    """
    b, h, w = context.sizes.warp
    figures: Figures = {}
    for name, case in warps.cases((b, h, w, int(part.split()[0]))).items():
        found = clock.take_turns(warps.beside_a_copy(case), context.sizes.repeats, warm=2)
        times = {which: walls(taken) for which, taken in found.items()}
        if name == "bilinear":
            figures["bilinear, GB/s"] = per_second(times["warp"], case.size / 1e9)
            figures["copy, GB/s"] = per_second(times["copy"], case.size / 1e9)
        figures[f"{name}, times"] = ratios(times["warp"], times["copy"])
    return figures
