"""Times of programs that take turns: on a machine that others use as well, only their ratios mean something."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

Times = tuple[float, float]  # seconds: wall, and processor seconds of all threads, which others disturb less
Timed = Callable[[], Times]  # one run


def stopwatch(run: Callable[[], Any]) -> Timed:
    """Returns a function that times one run, until its result has been computed."""
    import jax

    def timed() -> Times:
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        return time.perf_counter() - wall, time.process_time() - cpu

    return timed


def take_turns(contestants: Mapping[str, Timed], turns: int, *, warm: int = 1) -> dict[str, list[Times]]:
    """Returns the times of each contestant in each turn; `warm` turns before them are not counted."""
    times: dict[str, list[Times]] = {name: [] for name in contestants}
    for turn in range(warm + turns):
        for name, timed in contestants.items():
            taken = timed()
            if turn >= warm:
                times[name].append(taken)
    return times
