"""Compiled steps: one executable per shape of batch, compiled ahead, the next one while the current one trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from segjax.ops.barriers import compile_with_barriers

log = logging.getLogger("segjax")


class CompiledSteps:
    """Executables of a step by bucket; each is compiled once, in a thread.

    build: bucket -> (step function, abstract arguments, shardings of the results).

    An executable raises an error for arrays of another shape. A jitted function would silently compile again, for
    minutes in the middle of a training run.
    On the CPU, segments that are recomputed in the backward pass take effect, see ops/barriers.py.
    """

    def __init__(self, build: Callable[[Hashable], tuple[Callable, tuple[Any, ...], Any]]):
        self._build = build
        # one thread: two compilations at a time would compete for cores and memory, and delay the one needed first
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._done: dict[Hashable, Future] = {}

    def prepare(self, bucket: Hashable) -> None:
        """Starts compiling a bucket's step in the background, unless this has been done."""
        if bucket not in self._done:
            self._done[bucket] = self._pool.submit(self._compile, bucket)

    def get(self, bucket: Hashable) -> jax.stages.Compiled:
        """Returns the executable of a bucket, after waiting for its compilation if necessary."""
        self.prepare(bucket)
        return self._done[bucket].result()

    def _compile(self, bucket: Hashable) -> jax.stages.Compiled:
        start = time.perf_counter()
        step, arguments, shardings = self._build(bucket)
        compiled = compile_step(step, arguments, shardings)
        log.info("compiled the step for %s in %.1f s", bucket, time.perf_counter() - start)
        return compiled

    def close(self) -> None:
        """Cancels compilations that have not started; does not wait for the current one."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def compile_step(step: Callable, arguments: tuple[Any, ...], shardings: Any) -> jax.stages.Compiled:
    """Returns the executable of a step, for the devices of its shardings, which may be those of another machine.

    step: (state, batch, frozen) -> (state, metrics).
    arguments: shapes with shardings.
    shardings: of the results.
    """
    # the state is donated, so that a device holds it once; only positional arguments can be donated
    lowered = jax.jit(step, donate_argnums=0, out_shardings=shardings).lower(*arguments)
    device = next(iter(jax.tree.leaves(shardings)[0].device_set))
    return compile_with_barriers(lowered, device.platform)
