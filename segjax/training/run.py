"""The course of every training run, whatever is trained: resume, steps, scores, checkpoints, log."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from segjax import parallel
from segjax.data import Bucket, EpochPlan, Reading, Samples, Timeline, batch_spec, train_batches
from segjax.files import differences, write_file
from segjax.training.checkpoints import Checkpoints
from segjax.training.compiled import CompiledSteps
from segjax.training.logging import TrainingLog
from segjax.training.loop import Events, is_due, train
from segjax.training.memory import log_memory_plan, memory_plan
from segjax.training.metric_files import open_writers
from segjax.training.placement import argument_groups, batch_arguments, compilable
from segjax.training.state import TrainState
from segjax.training.step import Step

log = logging.getLogger("segjax")

Score = Callable[[TrainState, Callable[..., None]], Mapping[str, float]]


@dataclass(frozen=True)
class RunPlan:
    """The course of a training run as data, the same in every process.

    epochs: the samples of every epoch.
    timeline: from steps to epochs and buckets (shapes of batches).
    events: steps at which to save and to evaluate.
    examples_per_step: mean number of images of the run's batches, which a crop schedule changes.
    """

    epochs: EpochPlan
    timeline: Timeline
    events: Events
    examples_per_step: float

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.timeline.total_steps

    @property
    def total_epochs(self) -> float:
        """Epochs of the whole run; a fraction if it ends within one."""
        return self.timeline.progress(self.total_steps)

    @property
    def epoch_starts(self) -> list[int]:
        """First step of each epoch."""
        starts = map(self.timeline.epoch_start, range(self.timeline.epochs))
        return [start for start in starts if start < self.total_steps]

    @property
    def steps_per_epoch(self) -> float:
        """Mean number of steps per epoch; a crop schedule makes epochs of different lengths."""
        return self.total_steps / self.total_epochs


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a training run that do not change its numbers.

    log_steps: steps per line of the log.
    keep: number of checkpoints kept.
    """

    log_steps: int = 10
    keep: int = 2


@dataclass(frozen=True)
class TrainingTask:
    """The parts of a training that differ by its kind; `run_training` is the same for all.

    samples: of the training.
    plan: course of the run.
    make_step: bucket -> step for its batches.
    state: at step 0, on the mesh.
    frozen: variables of fixed networks for the step, on the mesh; {} for none.
    meta: plain data that checkpoints contain beside the state: "model", "normalisation", "config", "dataset", ...
    score: (state, after_batch) -> scores on held-out data, with a call of after_batch after each batch; None for no
        evaluation.
    epoch_begins: see `TrainingLog`.
    describe: logs what the compiled step of a bucket costs, before the first step.
    """

    samples: Samples
    plan: RunPlan
    make_step: Callable[[Bucket], Step]
    state: TrainState
    frozen: Any
    meta: Mapping[str, Any]
    score: Score | None
    epoch_begins: Callable[[int], None] | None = None
    describe: Callable[[jax.stages.Compiled, Bucket], None] | None = None


def run_training(
    task: TrainingTask, options: RunOptions, reading: Reading, mesh: Mesh, *, name: str, folder: Path
) -> tuple[TrainState, dict[str, Any]]:
    """Runs the remaining steps, from the newest checkpoint in `folder` to the end of the plan.

    task: samples, step and state of the training.
    options: checkpoints and log lines.
    reading: how samples are read.
    mesh: of devices.
    name: of the stage, in the log of settings that differ from the original run.
    folder: of the stage; receives checkpoints/, metrics.jsonl, events/ and parameters.txt.

    Returns (last state, report): steps, epochs, parameters, rates, and the history of scores.
    Raises Interrupted after a signal, and UserError for samples that do not fit the crops, checkpoints that cannot be
    read or written, and a loss that is not finite.
    """
    plan, state = task.plan, task.state
    spec_of = functools.partial(batch_spec, task.samples)
    steps = CompiledSteps(lambda bucket: compilable(task.make_step(bucket), state, spec_of(bucket), mesh, task.frozen))
    task.samples.check(plan.timeline.buckets)  # of all epochs: a crop that is too large must not fail hours later
    log_parameters(state, folder)
    with Checkpoints(folder / "checkpoints", keep=options.keep) as checkpoints:
        state, history = resume(checkpoints, state, {name: task.meta["config"], "dataset": task.meta["dataset"]})
        start = int(state.step)
        if start >= plan.total_steps:
            log.info("nothing left to train: step %d of %d", start, plan.total_steps)
        runs = plan.timeline.runs(start)
        if runs:
            bucket = runs[0].bucket
            # compiled before any batch is read, so that a lack of memory is logged at once
            groups = argument_groups(state, task.frozen, batch_arguments(spec_of(bucket), mesh))
            compiled = steps.get(bucket)
            log_memory_plan(memory_plan(compiled, groups=groups), name="training step")
            if task.describe:
                task.describe(compiled, bucket)
        part, parts = parallel.batch_part(mesh)
        with TrainingLog(
            start_step=start,
            total_steps=plan.total_steps,
            log_steps=options.log_steps,
            writers=open_writers(folder, start_step=start),
            epoch_of=lambda step: plan.timeline.at(step).epoch,
            epoch_begins=task.epoch_begins,
        ) as progress:
            evaluate = Evaluations(task.score, history) if task.score else None
            due = start and (start >= plan.total_steps or is_due(start, plan.events.eval_steps))
            if evaluate and due and start not in evaluate.steps:  # a signal ended the evaluation of this step
                progress.evaluated(start, evaluate(state, start))
            state = train(
                state,
                runs=runs,
                steps=steps,
                batches=train_batches(task.samples, plan.epochs, plan.timeline, reading, start, None, part, parts),
                to_devices=functools.partial(parallel.shard_batch, mesh=mesh),
                checkpoints=checkpoints,
                meta=lambda step: {**task.meta, "history": history},  # as it is at that step
                events=plan.events,
                progress=progress,
                frozen=task.frozen,
                evaluate=evaluate,
                names=lambda record: task.samples.names[record],
                parts=parts,
            )
    steps.close()
    return state, {
        "steps": int(state.step),
        "epochs": plan.total_epochs,
        "parameters": count_parameters(state),
        **progress.summary(),
        "history": history,
    }


class Evaluations:
    """Scoring of a training run: (state, step, after_batch) -> scores, which are also appended to `history`.

    score: (state, after_batch) -> scores.
    history: entries {"step": int, name: score}, changed in place.
    """

    def __init__(self, score: Score, history: list[dict[str, float]]):
        self._score, self._history = score, history

    @property
    def steps(self) -> set[int]:
        """Steps that have been scored."""
        return {int(entry["step"]) for entry in self._history}

    def __call__(
        self, state: TrainState, step: int, after_batch: Callable[..., None] = lambda *_: None
    ) -> Mapping[str, float]:
        """Scores `state` after `step` updates, and adds the scores to the history."""
        scores = self._score(state, after_batch)
        # a resumed run may have scored this step before: each step keeps one entry
        self._history[:] = [entry for entry in self._history if entry["step"] < step]
        self._history.append({"step": step, **{name: round(value, 6) for name, value in scores.items()}})
        return scores


def resume(
    checkpoints: Checkpoints, state: TrainState, configs: Mapping[str, Any]
) -> tuple[TrainState, list[dict[str, float]]]:
    """Returns the newest intact checkpoint as (state, history of scores), or (state, []) without checkpoints.

    Settings that differ from the original run are logged, not rejected: more epochs or another log interval are
    legitimate, and a change made by mistake is visible.

    checkpoints: of the run.
    state: at step 0, on the mesh.
    configs: name -> settings, of the stage (first) and of its dataset.

    Raises UserError if there are checkpoints and none can be read.
    """
    restored = checkpoints.restore(state)
    if restored is None:
        return state, []
    state, meta = restored
    log.info("resuming from step %d (%s)", int(state.step), checkpoints.folder)
    for (name, now), then in zip(configs.items(), (meta.get("config"), meta.get("dataset"))):
        for line in differences(then, now, where=name) if then is not None else ():
            log.warning("differs from the original run: %s", line)
    return state, list(meta.get("history", []))


def count_parameters(state: TrainState) -> int:
    """Returns the number of values in the parameters."""
    return int(sum(np.prod(x.shape) for x in jax.tree.leaves(state.params)))


def log_parameters(state: TrainState, folder: Path) -> None:
    """Logs the number of parameters, and writes the table of all of them to parameters.txt in `folder`."""
    leaves, path = len(jax.tree.leaves(state.params)), folder / "parameters.txt"
    if jax.process_index() == 0:
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False, max_lines=None)
        write_file(path, table + "\n")
    log.info("%d parameters in %d arrays, listed in %s", count_parameters(state), leaves, path)
