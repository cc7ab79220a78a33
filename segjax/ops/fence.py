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

from segjax.ops.platform import platform


def fenced(function: Callable[..., Any], **jit_options: Any) -> Callable[..., Any]:
    """`function` whose array arguments and results exist in memory; jit_options: static_argnums and so on.

    Other backends than the CPU choose well on their own, there it is the plain function.
    """

    @functools.wraps(function)
    def body(*args: Any, **kwargs: Any) -> Any:
        # without this, what jax.numpy jits (jnp.where ..) would be a call of its own as well
        with set_xla_metadata(inlineable="true"):
            return function(*args, **kwargs)

    compiled = jax.jit(body, **jit_options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if platform() != "cpu":
            return function(*args, **kwargs)
        with set_xla_metadata(inlineable="false"):
            return compiled(*args, **kwargs)

    return call
