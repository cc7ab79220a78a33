"""Orderly end on SIGTERM and ctrl-C: training finishes its step, saves a checkpoint and raises Interrupted."""

from __future__ import annotations

import signal

import jax
from jax.experimental import multihost_utils

from segjax.host import StopFlag, Stopped


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

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0  # how often; the service takes it for the step, which must rise by one

    def __enter__(self) -> StopSignal:
        if jax.process_count() == 1:
            super().__enter__()
        return self

    def requested(self) -> bool:
        """Returns whether to save and stop; the same answer on every process, all of which must ask equally often."""
        # they stop together, or collectives would wait forever
        self._asked += 1
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(self._asked):
            self.number = signal.SIGTERM
        return self.number != 0

    def check(self, *_: object) -> None:
        """Raises Stopped if it is requested: between the batches of long work that can be repeated."""
        if self.requested():
            raise Stopped
