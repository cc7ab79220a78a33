"""The training loop: batches in, steps, checkpoints, evaluations and log lines out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from segjax.data.timeline import Run
from segjax.errors import UserError
from segjax.training.checkpoints import Checkpoints
from segjax.training.compiled import CompiledSteps
from segjax.training.interrupt import Interrupted, StopSignal
from segjax.training.state import TrainState


class Progress(Protocol):
    """What the loop tells about itself; see logging.py."""

    def waiting(self) -> Any:
        """Context manager around waiting for data."""

    def dispatched(self, result: jax.Array) -> None:
        """A step has been handed to the devices; `result` is ready when they are done."""

    def step(self, step: int, metrics: Mapping[str, float], *, images: int) -> None:
        """One step is done."""

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """An evaluation is done."""


LARGEST_NORM = 1e6  # of all parameters; the largest network here starts below 1e3. Beyond it, training has diverged


@dataclass
class Events:
    """When things happen, in steps; 0 = never (but the end always saves and evaluates)."""

    checkpoint_steps: int = 0
    eval_steps: int = 0


@dataclass
class Pending:
    """A step whose metrics may still be computing, and what it was fed."""

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
    evaluate: Callable[[TrainState, int], Mapping[str, float]] | None = None,
    names: Callable[[int], str] = str,
    parts: int = 1,
) -> TrainState:
    """Runs every step of `runs` from `state` on.

    batches: (step, this host's rows) of every step, in order.
    to_devices: host rows -> global arrays on the mesh.
    frozen: the step's third argument, on the devices.
    meta: what a checkpoint tells about itself.
    names: record number -> name, for the report of a bad batch.
    parts: how many shares like this host's make a batch.

    Raises Interrupted after a signal (saved), UserError when the loss is not finite or the parameters explode.
    """
    last = runs[-1].end if runs else int(state.step)
    pending: Pending | None = None

    def settle() -> None:
        # metrics are read one step late, so that the device always has its next step
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
                steps.prepare(later.bucket)
            for step in range(run.start, run.end):
                with progress.waiting():
                    number_of_batch, batch = next(batches)
                    arrays = to_devices(batch)
                assert number_of_batch == step
                state, metrics = run_step(state, arrays, frozen)
                progress.dispatched(metrics["loss"])
                settle()
                pending = Pending(step, metrics, batch["record"], len(batch["record"]) * parts)
                done = step + 1
                leaving = done < last and stop.requested(done)
                evaluates = evaluate is not None and (done == last or _due(done, events.eval_steps))
                if leaving or evaluates or done == last or _due(done, events.checkpoint_steps):
                    settle()  # nothing is saved before it is known to be sound
                if evaluates and not leaving:
                    progress.evaluated(done, evaluate(state, done))
                if leaving or done == last or _due(done, events.checkpoint_steps):
                    checkpoints.save(state, step=done, meta=meta(done))
                if leaving:
                    checkpoints.wait()
                    raise Interrupted(stop.number, done)
    checkpoints.wait()
    if stop.number:  # in the last step, or while it was evaluated: what comes after the training is not begun
        raise Interrupted(stop.number, last)
    return state


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _fail(pending: Pending, metrics: Mapping[str, float], checkpoints: Checkpoints, names: Callable[[int], str]):
    checkpoints.wait()
    saved = checkpoints.steps
    where = f"the last good checkpoint is {checkpoints.folder / str(saved[-1])}" if saved else "nothing was saved yet"
    values = ", ".join(f"{name}={value:g}" for name, value in metrics.items())
    raise UserError(
        f"step {pending.step + 1} gave {values}; its images were {', '.join(names(int(r)) for r in pending.records)}; "
        f"{where}: lower optimizer.lr, or look at these images and their masks with `segjax check_data`."
    )
