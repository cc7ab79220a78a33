"""Orderly end on SIGTERM and ctrl-C: training finishes its step, saves a checkpoint and raises Interrupted."""

from __future__ import annotations

import signal

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):
    """End of a training by a signal, after a checkpoint was saved.

    number: of the signal.
    step: updates done.
    exit_code: 128 + number, as shells report a signal.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; a checkpoint was saved")
        self.exit_code = 128 + number


class StopSignal:
    """Context manager that remembers SIGTERM or SIGINT; a second signal ends the process at once.

    number: of the signal, 0 before one.

    With several processes, jax's preemption service listens for SIGTERM and chooses one step for all processes.
    """

    def __init__(self):
        self.number = 0
        self._old = {}

    def __enter__(self) -> StopSignal:
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number, frame) -> None:
        self.number = number
        signal.signal(number, self._old[number])  # so that a second ctrl-C works if the step hangs

    def requested(self, step: int) -> bool:
        """Returns whether to save and stop after `step` updates; the same answer on every process."""
        # every process must call it at every step: they stop together, or collectives would wait forever
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.number = signal.SIGTERM
        return self.number != 0
