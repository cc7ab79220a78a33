"""What to change so that a program fits: remat, batch or mesh, found by compiling a few candidates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from segjax.stages.rehearsal import Request, rehearse

FIXED = ("parameters", "optimizer", "average", "frozen")  # parts of the memory that do not grow with the batch
BATCHES = 3  # compilations in search of the largest batch

Report = Mapping[str, Any]


def plan(
    request: Request, *, tries: int = 6, compile: Callable[[Request], Report] = rehearse
) -> tuple[Report, list[tuple[str, Report]]]:
    """Returns (report of the request, [(change, report)]): the changes that were tried because it does not fit.

    request: what to compile.
    tries: largest number of changes to compile.
    compile: request -> report, see `rehearse`.

    Raises UserError as `rehearse` does for the request itself.
    """
    report = compile(request)
    tried: list[tuple[str, Report]] = []
    if report["memory"]["fits"]:
        return report, tried
    for change, changed in _candidates(request, report, tried):
        if len(tried) == tries:
            break
        tried.append((change, compile(changed)))
    return report, tried


def fitting(tried: list[tuple[str, Report]]) -> dict[str, Report]:
    """Returns change -> report of the changes that fit, of several batches the largest one."""
    found = {change: report for change, report in tried if report["memory"]["fits"]}
    batches = sorted((report["batch"], change) for change, report in found.items() if change.startswith("batch"))
    return {change: report for change, report in found.items() if (report["batch"], change) not in batches[:-1]}


def _candidates(request: Request, report: Report, tried: list[tuple[str, Report]]) -> Iterator[tuple[str, Request]]:
    """Yields (change, request); reads the outcome of the last one from `tried`."""
    remat = _changed(request, remat="full")
    recomputes = report["what"] == "train" and report["remat"] != "full"
    if recomputes:
        yield "remat='full'", remat
    yield from _batches(request, report, tried)
    if mesh := _with_space(report):
        text = f"mesh data={mesh['data']} space={mesh['space']}"
        yield text, _changed(request, mesh=mesh)
        if recomputes and not any(done["memory"]["fits"] for _, done in tried):
            yield f"{text} with remat='full'", _changed(remat, mesh=mesh)


def _batches(request: Request, report: Report, tried: list[tuple[str, Report]]) -> Iterator[tuple[str, Request]]:
    """Yields batches between the largest that fits and the smallest that does not, until they are neighbours."""
    step, known = report["multiple"], [report]
    for _ in range(BATCHES):
        lowest = max([one["batch"] for one in known if one["memory"]["fits"]], default=0) + step
        highest = min(one["batch"] for one in known if not one["memory"]["fits"]) - step
        if lowest > highest:
            return
        batch = min(max(_predicted(known) // step * step, lowest), highest)
        name = "batch" if report["what"] == "predict" else "batch_size"
        yield f"{name}={batch}", dataclasses.replace(request, batch=batch)
        known.append(tried[-1][1])


def _predicted(known: list[Report]) -> int:
    """Returns the largest batch that fits if memory grows linearly; without figures half of the smallest one."""
    (batch, memory), *others = [(one["batch"], one["memory"]) for one in known[::-1] if one["memory"]["needed"]] or [
        (0, {})
    ]
    if not memory or not memory["has"]:
        return min(one["batch"] for one in known) // 2
    fixed = sum(memory.get(name, 0) for name in FIXED)
    slope = (memory["needed"] - fixed) / batch
    if others:
        slope = (others[-1][1]["needed"] - memory["needed"]) / (others[-1][0] - batch)
        fixed = memory["needed"] - slope * batch
    return math.floor((memory["has"] - fixed) / slope) if slope > 0 else batch


def _with_space(report: Report) -> dict[str, int]:
    """Returns the mesh with twice as many parts of the height, {} if chips, batch or height do not allow it."""
    space = 2 * report["mesh"].get("space", 1)
    data = math.prod(report["mesh"].values()) // space
    splits = report["what"] != "predict" and report["splits_height"]
    if not splits or not data or math.prod(report["mesh"].values()) % space:
        return {}
    if report["size"][0] % space or report["batch"] % data:
        return {}
    return {"data": data, "space": space}


def _changed(request: Request, **changes: Any) -> Request:
    return dataclasses.replace(request, changes={**request.changes, **changes})
