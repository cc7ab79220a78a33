"""Reports of a propagation: counts, pictures, and the speed of the warp alone for comparison."""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from segjax import visualize
from segjax.data.chains import SEQUENCE_END, Chain, FrameTable, describe_end
from segjax.propagation.carry import Ignored, carry, first_state
from segjax.propagation.propagator import Propagated

LISTED = 20  # ends of chains that are listed; further ones are counted


def summarise(chains: Sequence[Chain], carried: Sequence[Propagated], table: FrameTable) -> dict[str, Any]:
    """Returns counts of one part of a propagation as plain numbers; `merge` adds up parts.

    chains: of the part.
    carried: the propagated labels of the part.
    table: of the frames.

    Keys of the result:
    carried: signed step -> frames.
    ends: reason why a chain is shorter than asked for -> chains.
    ended: one line per such chain, except for those that reach the end of their sequence.
    ignored: signed step -> reason -> sum over the frames of the share of pixels that became ignored.
    """
    by_step: dict[str, int] = collections.Counter()
    ignored: dict[str, dict[str, float]] = {}
    for one in carried:
        step = f"{one.chain.direction * one.step:+d}"
        by_step[step] += 1
        sums = ignored.setdefault(step, dict.fromkeys(Ignored._fields, 0.0))
        for name, share in one.ignored._asdict().items():
            sums[name] += share
    short = [chain for chain in chains if chain.end]
    return {
        "carried": dict(by_step),
        "ends": dict(collections.Counter(chain.end for chain in short)),
        "ended": [describe_end(chain, table) for chain in short if chain.end != SEQUENCE_END],
        "ignored": ignored,
    }


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the sum of summaries.

    The shares of ignored pixels become means over the frames. Of the list of ends, the first LISTED lines are kept.
    """
    carried, ends = collections.Counter(), collections.Counter()
    ended: list[str] = []
    ignored: dict[str, collections.Counter] = {}
    for part in parts:
        carried.update(part["carried"])
        ends.update(part["ends"])
        ended += part["ended"]
        for step, sums in part["ignored"].items():
            ignored.setdefault(step, collections.Counter()).update(sums)
    order = sorted(carried, key=lambda step: (abs(int(step)), -int(step)))
    more = [f"and {len(ended) - LISTED} more"] if len(ended) > LISTED else []
    return {
        "carried": {step: carried[step] for step in order},
        "ends": dict(ends),
        "ended": ended[:LISTED] + more,
        "ignored": {
            step: {name: round(value / carried[step], 6) for name, value in ignored[step].items()} for step in order
        },
    }


def describe(summary: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a merged summary, for a log or the screen."""
    total = sum(summary["carried"].values())
    by_step = ", ".join(f"{step} {n}" for step, n in summary["carried"].items())
    lines = [f"{total} frames with propagated labels: {by_step}"]
    for step, shares in summary["ignored"].items():
        reasons = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items() if share)
        lines.append(f"ignored at {step}: {reasons or 'nothing'}")
    lines += [f"{count} chains end because {why}" for why, count in summary["ends"].items()]
    return lines


def propagation_sheet(
    rows: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    heading: str = "",
    tile_width: int = 420,
) -> np.ndarray:
    """Returns a sheet of real frame | propagated image | propagated label | ignored pixels, uint8 (h, w, 3).

    rows: (caption, real frame (h, w, 3), image (h, w, 3), label (h, w)) per row.
    class_names: of the legend.
    palette: uint8 (k, 3).
    heading: of the sheet, "" for none.
    tile_width: of one picture, pixels.
    """
    pictures = [
        [real, image, visualize.overlay(image, label, palette), _ignored(real, label, len(palette))]
        for _, real, image, label in rows
    ]
    return visualize.labelled_sheet(
        pictures,
        class_names,
        palette,
        captions=[caption for caption, *_ in rows],
        titles=("real frame", "propagated image", "propagated label", "ignored"),
        heading=heading,
        tile_width=tile_width,
    )


def _ignored(image: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    pale = (image.mean(-1, keepdims=True) * 0.4 + 153).astype(np.uint8).repeat(3, -1)
    return np.where((label >= num_classes)[..., None], np.asarray(visualize.WRONG, np.uint8), pale)


def warp_seconds(size: tuple[int, int], *, batch: int, turns: int = 5, **options: Any) -> float:
    """Returns the seconds per frame that the warp of an image and its label takes, a lower bound for a step.

    size: (h, w) in pixels.
    batch: frames at once.
    turns: runs, of which the median counts.
    options: keyword arguments of `carry`.
    """
    h, w = size
    rng = np.random.default_rng(0)
    state = first_state(
        rng.uniform(0, 255, (batch, h, w, 3)).astype(np.float32), rng.integers(0, 19, (batch, h, w)).astype(np.uint8)
    )
    motion = jax.device_put(rng.normal(0, 4, (batch, h, w, 2)).astype(np.float32))
    step = jax.jit(lambda state, motion: carry(state, motion, first=True, **options))
    jax.block_until_ready(step(state, motion))
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        jax.block_until_ready(step(state, motion))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) / batch
