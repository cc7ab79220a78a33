"""SIGTERM and ctrl-C: finish the step, save, leave."""

from __future__ import annotations

import signal

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):
    """Training was asked to stop and has saved. `exit_code` is the shell's 128 + signal."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; a checkpoint was saved")
        self.exit_code = 128 + number


class StopSignal:
    """Context manager that remembers a SIGTERM or SIGINT instead of dying from it; a second one kills at once.

    With several processes jax's own service listens for SIGTERM and tells every process the step to stop at.
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
        signal.signal(number, self._old[number])

    def requested(self, step: int) -> bool:
        """Whether to save and leave now; the same answer on every process."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.number = signal.SIGTERM
        return self.number != 0
