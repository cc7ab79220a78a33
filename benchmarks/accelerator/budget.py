"""Runs the items within the minutes that there are, each in a process of its own, and goes on where it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.accelerator import worker
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.environment import ROOT, describe
from benchmarks.accelerator.items import ITEMS, START, Item
from benchmarks.accelerator.results import Results


def open_parts(results: Results, *, only: Sequence[str], again: bool, rehearsal: bool) -> Iterator[tuple[Item, list]]:
    """Yields each row of the items that has parts to run, with these.

    only: names of items, () for all.
    again: whether parts that are done are run again.
    """
    for item in ITEMS:
        parts = item.tiny if rehearsal else tuple(item.parts)
        left = [part for part in parts if again or results.get(item.name, part).get("state") != "done"]
        if left and (not only or item.name in only):
            yield item, left


def run_here(results: Results, items: Sequence[tuple[Item, list]], context: Context, commit: str) -> None:
    """Runs everything in this process, as the rehearsal does: a process of its own for each item costs its imports."""
    import jax

    results.begin(describe(rehearsal=context.rehearsal, commit=commit))
    jax.config.update("jax_disable_most_optimizations", True)  # a few tiny steps: nearly all the time is compilation
    for item, parts in items:
        worker.run_parts(results, item.name, parts, context, deadline=float("inf"))


def run_within(
    seconds: float, results: Results, items: Sequence[tuple[Item, list]], context: Context, *, cache: str, commit: str
) -> int:
    """Runs items in processes until the seconds are over; returns 0, or the exit code of what refuses to run at all.

    cache: folder of compiled programs; "" for the one of all commands of segjax.
    """
    deadline = time.monotonic() + seconds
    results.forget_unfinished()
    for item, parts in items:
        waiting = list(parts)
        while waiting:
            left, needed = deadline - time.monotonic(), START + item.parts[waiting[0]]
            if left < needed:
                results.put(item.name, waiting.pop(0), "skipped", reason=worker.short_of_time(needed, left))
                continue
            chosen = waiting[:1] if item.alone else waiting
            asked = dict(item=item.name, parts=chosen, seconds=left - START, output=str(results.path.parent.resolve()))
            asked["commit"] = commit
            asked["context"] = dict(torch_python=context.torch_python, camvid=context.camvid)
            code = start_worker(asked, left, cache)
            if code == worker.REFUSED:
                return code
            results.read()
            ended = _ended(results, item.name, chosen, code)
            waiting = [part for part in waiting if part not in ended]
    return 0


def _ended(results: Results, item: str, parts: Sequence[str], code: int | None) -> Sequence[str]:
    """Returns the parts that a process has dealt with, and notes that the one in which it died has failed."""
    if code == 0:
        return parts
    states = [results.get(item, part).get("state") for part in parts]
    place = next((states.index(state) for state in ("running", "waiting") if state in states), 0)
    reason = "it did not end within the minutes" if code is None else f"its process ended with code {code}"
    results.put(item, parts[place], "failed", reason=reason)
    return parts[: place + 1]


def start_worker(asked: dict[str, Any], seconds: float, cache: str) -> int | None:
    """Runs a process of worker.py to its end and returns its exit code, None if it was ended after the seconds."""
    command = [sys.executable, "-m", "benchmarks.accelerator.worker", json.dumps(asked)]
    # a group of its own: PyTorch's process is ended with it
    process = subprocess.Popen(command, cwd=ROOT, env=environment_of(cache), start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment_of(cache: str) -> dict[str, str]:
    """Returns the variables of a worker: memory is left for PyTorch, and the CPU can compute, too."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), found.get("PYTHONPATH", "")]))
    found.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")
    if cache:
        found["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(cache)
    chosen = found.get("JAX_PLATFORMS", "")
    if chosen and "cpu" not in chosen.split(","):
        found["JAX_PLATFORMS"] = f"{chosen},cpu"  # precision.py computes float64 there
    return found
