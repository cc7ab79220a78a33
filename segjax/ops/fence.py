"""Functions that XLA's CPU backend compiles separately instead of fusing them with the code around them.

That backend computes elementwise producers again inside every consumer, however many there are. Each of the nine taps
of a depthwise kernel gradient then repeats the whole forward pass before it. `optimization_barrier` does not help,
because XLA removes it before fusion. A call that XLA must not inline does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from segjax.ops.platform import platform


def fenced(function: Callable[..., Any], **jit_options: Any) -> Callable[..., Any]:
    """Returns `function` with arguments and results that exist in memory in programs for the CPU.

    In programs for other platforms, whose fusion needs no help, it is the plain function.

    jit_options: options of `jax.jit`, for example static_argnums.
    """

    @functools.wraps(function)
    def body(*args: Any, **kwargs: Any) -> Any:
        # otherwise the jitted functions of jax.numpy inside (jnp.where ..) would inherit "false" and be calls too
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
