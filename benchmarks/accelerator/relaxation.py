"""Label relaxation (Zhu et al., VPLR) as a multiple of plain cross entropy: alone, and inside a training step."""

from __future__ import annotations

from benchmarks import clock, losses
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, ratios, spread, walls

CLASSES = 19
RELAXED = ("relaxed", "relaxed, strict, histogram weights")


def measure(part: str, context: Context) -> Figures:
    """part: "alone", the loss with its gradient; "in a step of NETWORK", forward, loss, backward and SGD."""
    names = (losses.BASE, *RELAXED)
    logits, labels = losses.made_up(context.sizes.image, context.sizes.batch, CLASSES)
    if part == "alone":
        runs = losses.alone(logits, labels, names)
    else:
        runs = losses.in_a_step(part.split()[-1], CLASSES, labels, names, dtype=context.dtype)
    found = clock.take_turns(runs, context.sizes.repeats, warm=2)
    times = {name: walls(taken) for name, taken in found.items()}
    figures: Figures = {"cross entropy, ms": spread(1e3 * one for one in times[losses.BASE])}
    return figures | {f"{name}, times": ratios(times[name], times[losses.BASE]) for name in RELAXED}
