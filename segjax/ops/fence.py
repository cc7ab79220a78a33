"""Functions that XLA compiles on their own instead of melting them into their surroundings.

XLA's CPU backend computes elementwise producers again inside every consumer, however many there are: the nine taps of
a depthwise kernel gradient then each repeat the whole forward pass before them. `optimization_barrier` does not help,
because it is removed before fusion; a call that may not be inlined does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def fenced(function: Callable[..., Any], **jit_options: Any) -> Callable[..., Any]:
    """`function` whose array arguments and results exist in memory; jit_options: static_argnums and so on."""
    compiled = jax.jit(function, **jit_options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return compiled(*args, **kwargs)

    return call
