"""One executable per shape of batch, compiled before it is needed: the next one while the current one trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

log = logging.getLogger("segjax")


class CompiledSteps:
    """build(bucket) -> (step function, abstract arguments, output shardings); every bucket is compiled once, early."""

    def __init__(self, build: Callable[[Hashable], tuple[Callable, tuple[Any, ...], Any]]):
        self._build = build
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._done: dict[Hashable, Future] = {}

    def prepare(self, bucket: Hashable) -> None:
        """Starts compiling in the background."""
        if bucket not in self._done:
            self._done[bucket] = self._pool.submit(self._compile, bucket)

    def get(self, bucket: Hashable) -> jax.stages.Compiled:
        """The executable, waiting for it where it must."""
        self.prepare(bucket)
        return self._done[bucket].result()

    def _compile(self, bucket: Hashable) -> jax.stages.Compiled:
        start = time.perf_counter()
        step, arguments, shardings = self._build(bucket)
        compiled = jax.jit(step, donate_argnums=0, out_shardings=shardings).lower(*arguments).compile()
        log.info("compiled the step for %s in %.1f s", bucket, time.perf_counter() - start)
        return compiled

    def close(self) -> None:
        """Stops waiting for executables nobody will use."""
        self._pool.shutdown(wait=False, cancel_futures=True)
