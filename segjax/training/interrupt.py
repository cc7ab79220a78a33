"""Orderly end on SIGTERM and ctrl-C: training finishes its step, saves a checkpoint and raises Interrupted."""

from __future__ import annotations

import signal

import jax
from jax.experimental import multihost_utils

from segjax.host import StopFlag


class Interrupted(Exception):
    """End of a training by a signal, after a checkpoint was saved.

    number: of the signal.
    step: updates done.
    exit_code: 128 + number, as shells report a signal.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; a checkpoint was saved")
        self.exit_code = 128 + number


class StopSignal(StopFlag):
    """A `StopFlag` whose answer is the same on every process.

    With several processes, jax's preemption service listens for SIGTERM and chooses one step for all processes.
    """

    def __enter__(self) -> StopSignal:
        if jax.process_count() == 1:
            super().__enter__()
        return self

    def requested(self, step: int) -> bool:
        """Returns whether to save and stop after `step` updates; the same answer on every process."""
        # every process must call it at every step: they stop together, or collectives would wait forever
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.number = signal.SIGTERM
        return self.number != 0
