"""The platform that a program is traced for, which decides how convolutions, resizes and counts are lowered.

By default that is the platform of this process. A program for another one is traced for it explicitly:

    exported = jax.export.export(jax.jit(for_platform(step, "tpu")), platforms=["tpu"])(*arguments)
    compiled = jax.jit(for_platform(step, "tpu")).lower(*arguments_on_a_tpu_topology).compile()

Without `for_platform` the program would contain the lowerings of this process: the same values, but slow on the target.

Two traps:

- `jax.jit` caches what it has traced, by function and shapes. So do `jax.checkpoint`, `lax.scan` and the jitted
  functions inside `jax.numpy`. The platform is therefore a `jax.make_user_context`, which is part of the key of all
  these caches. With a global or a context variable, a function already traced for the CPU would be reused for the TPU.
- The backward rule of a `jax.custom_vjp` is traced when the gradient is taken. `jax.grad(for_platform(loss, "tpu"))`
  therefore traces it for this process; `for_platform(jax.grad(loss), "tpu")` is right. Wrap whole programs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

# names of jax.default_backend() and of jax.export -> names of jax.default_backend()
_NAMES = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}
_platform = jax.make_user_context(None)


def platform() -> str:
    """Returns the platform of the program being traced: that of `made_for`, else `jax.default_backend()`.

    "cpu", "gpu", "tpu", or the name of another backend if this process runs on one.
    """
    return _platform.value or jax.default_backend()


@contextlib.contextmanager
def made_for(platform: str) -> Iterator[None]:
    """Sets the platform of all programs that this thread traces inside the block; the innermost block wins.

    platform: "cpu", "gpu" (also "cuda" or "rocm") or "tpu".

    Raises ValueError for another name.
    """
    with _platform(_known(platform)):
        yield


def for_platform(function: Callable[..., Any], platform: str) -> Callable[..., Any]:
    """Returns a new function that traces `function` for the platform, in whatever thread it is traced.

    function: a whole program, its gradients included (the second trap above); may be jitted.
    platform: as for `made_for`.

    Raises ValueError for an unknown platform.
    """
    return traced_inside(function, functools.partial(made_for, _known(platform)))


def traced_inside(
    function: Callable[..., Any], context: Callable[[], contextlib.AbstractContextManager[None]]
) -> Callable[..., Any]:
    """Returns a new function that traces `function` inside a context, which is entered at each call."""

    @functools.wraps(function, updated=())  # a jitted function keeps its cache in __dict__
    def traced(*args: Any, **kwargs: Any) -> Any:
        with context():
            return function(*args, **kwargs)

    return traced


def _known(platform: str) -> str:
    if platform not in _NAMES:
        raise ValueError(f"platform={platform!r}; choose {', '.join(_NAMES)}")
    return _NAMES[platform]
