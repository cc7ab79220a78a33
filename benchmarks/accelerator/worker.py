"""Runs parts of one item, in a process that may die without loss: each part's figures are written when it ends."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accelerator.context import Context, Sizes, Skipped
from benchmarks.accelerator.environment import describe
from benchmarks.accelerator.figures import Figures
from benchmarks.accelerator.items import ITEMS
from benchmarks.accelerator.results import Results
from segjax.errors import UserError, explain
from segjax.ops.host_memory import reuse_freed_memory
from segjax.parallel.distributed import use_compilation_cache

REFUSED = 2  # exit code: nothing can be measured here, and the reason has been printed


def run_parts(results: Results, item: str, parts: Sequence[str], context: Context, deadline: float) -> None:
    """Runs parts in their order; one that may not end before the deadline is skipped.

    deadline: in seconds of `time.monotonic`.
    """
    import jax

    seconds = {part: guess for row in ITEMS if row.name == item for part, guess in row.parts.items()}
    seconds |= {part: 0 for part in parts if context.rehearsal}
    for part in parts:
        results.put(item, part, "waiting")
    measure = importlib.import_module(f"benchmarks.accelerator.{item}").measure
    for part in parts:
        start = time.monotonic()
        if start + seconds[part] > deadline:
            results.put(item, part, "skipped", reason=short_of_time(seconds[part], deadline - start))
        else:
            results.put(item, part, "running")
            known = _measured(measure, part, context)
            results.put(item, part, **known, seconds=round(time.monotonic() - start, 1))
            jax.clear_caches()
            gc.collect()
        print(f"{item}, {part}: {results.get(item, part)['state']}", flush=True)


def _measured(measure: Callable[[str, Context], Figures], part: str, context: Context) -> dict[str, Any]:
    """Returns the state of a part with its figures, or with the reason why it has none."""
    try:
        return dict(state="done", figures=measure(part, context))
    except Skipped as reason:
        return dict(state="skipped", reason=str(reason))
    except Exception as error:  # noqa: BLE001 (whatever it is, the other parts still run)
        traceback.print_exc()
        return dict(state="failed", reason=_sentence(error))


def short_of_time(needed: float, left: float) -> str:
    """Returns the reason why a part was not begun."""
    return f"takes about {needed:.0f} s, and {max(left, 0):.0f} s were left"


def _sentence(error: Exception) -> str:
    try:
        return explain(error)[0]
    except Exception:  # noqa: BLE001 (explain raises what it has no sentence for)
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def main() -> None:
    """Reads one JSON object: item, parts, seconds that are left, output, commit, and where things are."""
    asked = json.loads(sys.argv[1])
    context = Context(sizes=Sizes(), rehearsal=False, **asked["context"])
    deadline = time.monotonic() + asked["seconds"]
    reuse_freed_memory()  # before jax starts its threads
    try:
        results = Results(Path(asked["output"]))
        results.begin(describe(rehearsal=False, commit=asked["commit"]))
    except UserError as error:
        print(f"benchmarks.accelerator: error: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    use_compilation_cache()
    run_parts(results, asked["item"], asked["parts"], context, deadline)


if __name__ == "__main__":
    main()
