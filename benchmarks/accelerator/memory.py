"""Memory of a training step of Ladder DenseNets with and without recomputation (their paper, Tables 11 and 12).

XLA's plan, and what the device has really allocated at its peak. That peak never falls within a process, so that each
part has one of its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import checkpointing, clock
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, rates, walls
from segjax.costs.programs import Workload, training_step
from segjax.ops.barriers import compile_with_barriers
from segjax.training.memory import memory_analysis

MIB = 2**20


def measure(part: str, context: Context) -> Figures:
    """part: "NETWORK REMAT", or "NETWORK" without recomputation.

    Figures: MiB of temporaries and of arguments that XLA plans, MiB at the device's peak where it counts them, images
    per second of loss and gradient, and the megabytes that the paper measured for a whole step in PyTorch.
    """
    name, _, remat = part.partition(" ")
    size, batch = context.sizes.ladder
    options = dict(remat=remat or False, layout="32to4", dtype=context.dtype, **context.sizes.small_ladder)
    step = training_step(Workload(name=name, size=size, batch=batch, options=options))
    device = jax.devices()[0]
    compiled = compile_with_barriers(jax.jit(step.function).lower(*step.arguments), device.platform)
    figures: Figures = {}
    if plan := memory_analysis(compiled):
        figures["temporaries, MiB"] = round(plan.temp_size_in_bytes / MIB)
        figures["arguments, MiB"] = round(plan.argument_size_in_bytes / MIB)
    arguments = jax.tree.map(_values, step.arguments)
    times = clock.take_turns({"": clock.stopwatch(lambda: compiled(*arguments))}, context.sizes.repeats)[""]
    if "peak_bytes_in_use" in (stats := device.memory_stats() or {}):
        figures["peak of the device, MiB"] = round(stats["peak_bytes_in_use"] / MIB)
    figures["images/s"] = rates(walls(times), batch)
    paper = next((row.paper for row in checkpointing.ROWS if (row.network, row.remat) == (name, remat)), None)
    return figures | ({"paper, MB": paper} if paper else {})


def _values(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Returns random parameters and pixels, and class 0: equal numbers everywhere would be computed faster."""
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(np.abs(np.random.default_rng(0).normal(0.05, 0.02, leaf.shape)), leaf.dtype)
    return jnp.zeros(leaf.shape, leaf.dtype)
