"""The training loop: it takes batches and runs steps, with checkpoints, evaluations and log lines in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from segjax.data.timeline import Run
from segjax.errors import UserError
from segjax.host import Stopped
from segjax.training.checkpoints import Checkpoints
from segjax.training.compiled import CompiledSteps
from segjax.training.interrupt import Interrupted, StopSignal
from segjax.training.state import TrainState


class Progress(Protocol):
    """What the loop reports to; see `TrainingLog`."""

    def waiting(self) -> Any:
        """Returns a context manager around code that waits for data."""

    def dispatched(self, result: jax.Array) -> None:
        """Records that a step was given to the devices; `result` is ready when they have finished it."""

    def step(self, step: int, metrics: Mapping[str, float], *, images: int) -> None:
        """Records that a step is done."""

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """Records the scores of an evaluation."""


LARGEST_NORM = 1e6  # of all parameters: beyond it training has diverged; the largest network here starts below 1e3


@dataclass
class Events:
    """Steps between checkpoints and between evaluations; 0 = never. The end of a run always saves and evaluates."""

    checkpoint_steps: int = 0
    eval_steps: int = 0


@dataclass
class Pending:
    """A step whose metrics may not be computed yet, and the records of its batch."""

    step: int
    metrics: Mapping[str, jax.Array]
    records: np.ndarray = field(repr=False)
    images: int = 0


def train(
    state: TrainState,
    *,
    runs: Sequence[Run],
    steps: CompiledSteps,
    batches: Iterator[tuple[int, Mapping[str, np.ndarray]]],
    to_devices: Callable[[Mapping[str, np.ndarray]], Mapping[str, jax.Array]],
    checkpoints: Checkpoints,
    meta: Callable[[int], dict[str, Any]],
    events: Events,
    progress: Progress,
    frozen: Any = (),
    evaluate: Callable[[TrainState, int, Callable[..., None]], Mapping[str, float]] | None = None,
    names: Callable[[int], str] = str,
    parts: int = 1,
) -> TrainState:
    """Runs every step of `runs` and returns the last state.

    state: before the first step, on the devices.
    runs: the remaining steps.
    steps: executables by bucket.
    batches: (step, this host's rows) of every step, in order.
    to_devices: host rows -> global arrays on the mesh.
    checkpoints: that the loop saves to.
    meta: step -> plain data for the checkpoint of that step.
    events: when to save and to evaluate.
    progress: log of the run.
    frozen: third argument of the step, on the devices.
    evaluate: (state, step, after_batch) -> scores; None for no evaluation. It calls after_batch after each batch, which
        raises Stopped after a signal.
    names: record number -> name, for the error about a bad batch.
    parts: number of hosts' shares in a batch.

    Raises Interrupted after a signal, with a checkpoint saved, and UserError if the loss is not finite, the parameters
    diverge, or a checkpoint cannot be saved.
    """
    last = runs[-1].end if runs else int(state.step)
    pending: Pending | None = None

    def settle() -> None:
        # Metrics are read one step late: reading waits for the device, which has its next step by then. Read at once,
        # the device would be idle while the host prepares each step.
        nonlocal pending
        if pending is None:
            return
        metrics = {name: float(value) for name, value in pending.metrics.items()}
        finite = all(math.isfinite(metrics[name]) for name in ("loss", "grad_norm"))
        if not (finite and metrics["param_norm"] <= LARGEST_NORM):
            _fail(pending, metrics, checkpoints, names)
        progress.step(pending.step, metrics, images=pending.images)
        pending = None

    with StopSignal() as stop:
        for number, run in enumerate(runs):
            run_step = steps.get(run.bucket)
            for later in runs[number + 1 : number + 2]:
                steps.prepare(later.bucket)  # compiles while this bucket trains, so that the next one starts at once
            for step in range(run.start, run.end):
                with progress.waiting():
                    number_of_batch, batch = next(batches)
                    arrays = to_devices(batch)
                assert number_of_batch == step  # batches are a function of the step: resuming must not shift them
                state, metrics = run_step(state, arrays, frozen)  # the old state is donated: nothing may keep it
                progress.dispatched(metrics["loss"])
                settle()
                pending = Pending(step, metrics, batch["record"], len(batch["record"]) * parts)
                done = step + 1
                # every process computes the same three answers: saving and evaluating involve all of them
                leaving = done < last and stop.requested()
                evaluates = evaluate is not None and (done == last or is_due(done, events.eval_steps))
                if leaving or evaluates or done == last or is_due(done, events.checkpoint_steps):
                    settle()  # a state is saved or scored after its metrics were found finite
                if evaluates and not leaving:
                    try:
                        with stop.at_once():
                            progress.evaluated(done, evaluate(state, done, stop.check))
                    except Stopped:  # the run that resumes here evaluates first
                        leaving = True
                if leaving or done == last or is_due(done, events.checkpoint_steps):
                    checkpoints.save(state, step=done, meta=meta(done))
                if leaving:
                    checkpoints.wait()
                    raise Interrupted(stop.number, done)
    checkpoints.wait()
    if stop.number:  # a signal in the last step, or during its evaluation: what follows the training must not start
        raise Interrupted(stop.number, last)
    return state


def is_due(done: int, every: int) -> bool:
    """Returns whether something that happens every so many steps, 0 = never, happens after `done` of them."""
    return every > 0 and done % every == 0


def _fail(pending: Pending, metrics: Mapping[str, float], checkpoints: Checkpoints, names: Callable[[int], str]):
    checkpoints.wait()  # so that the error names the newest checkpoint
    saved = checkpoints.steps
    where = f"the last good checkpoint is {checkpoints.folder / str(saved[-1])}" if saved else "nothing was saved yet"
    values = ", ".join(f"{name}={value:g}" for name, value in metrics.items())
    raise UserError(
        f"step {pending.step + 1} gave {values}; its images were {', '.join(names(int(r)) for r in pending.records)}; "
        f"{where}: lower optimizer.lr, or look at these images and their masks with `segjax check_data`."
    )
