"""What a propagation tells: counts, pictures, and its speed beside that of the warp alone."""

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
from segjax.propagation.carry import Carried, Ignored, carry
from segjax.propagation.propagator import Propagated

LISTED = 20  # ends of chains that are named; the others are counted


def summarise(chains: Sequence[Chain], carried: Sequence[Propagated], table: FrameTable) -> dict[str, Any]:
    """Plain numbers that add up over parts of a run, see `merge`.

    carried: frames by signed step. ends: why chains are shorter than asked for, and how many. ended: one line for each
    of them that does not just reach the end of its sequence.
    ignored: by signed step, sums over the frames of the shares of pixels that became ignored, by reason.
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
    """Adds up summaries; the shares of ignored pixels become means, the list of ends keeps its first lines."""
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
    """Lines for a log or the screen."""
    total = sum(summary["carried"].values())
    lines = [f"{total} frames carried: " + ", ".join(f"{step} {n}" for step, n in summary["carried"].items())]
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
    """Sheet of real frame | carried image | carried label | what is ignored.

    rows: (caption, real (h, w, 3), image (h, w, 3), label (h, w)). Returns uint8 (h, w, 3).
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
        titles=("real frame", "carried image", "carried label", "ignored"),
        heading=heading,
        tile_width=tile_width,
    )


def _ignored(image: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    pale = (image.mean(-1, keepdims=True) * 0.4 + 153).astype(np.uint8).repeat(3, -1)
    return np.where((label >= num_classes)[..., None], np.asarray(visualize.WRONG, np.uint8), pale)


def warp_seconds(size: tuple[int, int], *, batch: int, turns: int = 5, **options: Any) -> float:
    """Seconds per frame (h, w) of moving an image and its label on one device: the least a step costs."""
    h, w = size
    rng = np.random.default_rng(0)
    state = Carried(
        jax.device_put(rng.uniform(0, 255, (batch, h, w, 3)).astype(np.float32)),
        jax.device_put(rng.integers(0, 19, (batch, h, w)).astype(np.uint8)),
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
