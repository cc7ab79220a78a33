"""Compilation that keeps barriers, without which nothing is computed again in a backward pass on the CPU.

A segment that is recomputed is the same computation twice. `jax.checkpoint` and ops/dense_block.py put an
`optimization_barrier` before the second one, so that the compiler does not merge both and keep the activations after
all. On the CPU, XLA's pass "cse_barrier_expander" removes all barriers before that merge, up to jaxlib 0.10.
"""

from __future__ import annotations

import jax

KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def compile_with_barriers(lowered: jax.stages.Lowered, platform: str) -> jax.stages.Compiled:
    """Returns the compiled program, in which what its segments compute again is computed again.

    lowered: program of any kind; one without barriers is compiled as always.
    platform: that it is compiled for, see `ops.platform`.
    """
    keep = platform == "cpu" and "optimization_barrier" in lowered.as_text()
    return lowered.compile(compiler_options=KEEP_BARRIERS if keep else None)
