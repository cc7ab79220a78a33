"""What every training does the same way: resuming, steps, scores, checkpoints, log."""

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
from segjax.ops import for_platform
from segjax.parallel.rules import Rules
from segjax.training.checkpoints import Checkpoints
from segjax.training.compiled import CompiledSteps
from segjax.training.logging import TrainingLog
from segjax.training.loop import Events, train
from segjax.training.memory import log_memory_plan, memory_plan
from segjax.training.metric_files import open_writers
from segjax.training.state import TrainState, create_state
from segjax.training.step import Step
from segjax.typing import Variables

log = logging.getLogger("segjax")

Specs = Mapping[str, tuple[tuple[int, ...], Any]]  # array -> (shape, dtype)


@dataclass(frozen=True)
class RunPlan:
    """The run as data; every process has the same.

    epochs: which samples every epoch has. timeline: from steps to epochs and shapes of batches. events: when to save
    and to evaluate. examples_per_step: the mean over the run, with what a last batch leaves of an epoch.
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
        """Epochs of the whole run; a fraction if it stops within one."""
        return self.timeline.progress(self.total_steps)

    @property
    def epoch_starts(self) -> list[int]:
        """First step of each epoch."""
        starts = map(self.timeline.epoch_start, range(self.timeline.epochs))
        return [start for start in starts if start < self.total_steps]

    @property
    def steps_per_epoch(self) -> float:
        """The mean, as crop schedules change it."""
        return self.total_steps / self.total_epochs


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is kept and logged. log_steps: steps per line of the log. keep: checkpoints kept."""

    log_steps: int = 10
    keep: int = 2


@dataclass(frozen=True)
class TrainingTask:
    """What is trained: all that `run_training` is not the same for.

    samples: what is trained on. plan: when which of them. make_step: bucket -> the step for its batches.
    state: at step 0, on the mesh. frozen: variables of fixed networks, on the mesh, for the step; {} for none.
    meta: what checkpoints contain beside the state: "model", "normalisation", "config", "dataset", ...
    score: state -> scores of held-out data, None to score nothing.
    """

    samples: Samples
    plan: RunPlan
    make_step: Callable[[Bucket], Step]
    state: TrainState
    frozen: Any
    meta: Mapping[str, Any]
    score: Callable[[TrainState], Mapping[str, float]] | None


def run_training(
    task: TrainingTask, options: RunOptions, reading: Reading, mesh: Mesh, *, name: str, folder: Path
) -> tuple[TrainState, dict[str, Any]]:
    """Runs the steps that are left, from the newest checkpoint in `folder` to the end of the plan.

    reading: how samples are read. name: of the stage, for what differs from the original run.
    Returns the last state and the report: steps, epochs, parameters, rates, the history of scores.
    """
    plan, state = task.plan, task.state
    spec_of = functools.partial(batch_spec, task.samples)
    steps = CompiledSteps(lambda bucket: compilable(task.make_step(bucket), state, spec_of(bucket), mesh, task.frozen))
    task.samples.check(plan.timeline.buckets)
    log_parameters(state, folder)
    with Checkpoints(folder / "checkpoints", keep=options.keep) as checkpoints:
        state, history = resume(checkpoints, state, {name: task.meta["config"], "dataset": task.meta["dataset"]})
        start = int(state.step)
        if start >= plan.total_steps:
            log.info("nothing left to train: step %d of %d", start, plan.total_steps)
        runs = plan.timeline.runs(start)
        if runs:
            bucket = runs[0].bucket
            groups = {"parameters": state.variables, "optimizer": state.opt_state, "average": state.ema}
            groups |= {"frozen": task.frozen} if task.frozen else {}
            groups["batch"] = batch_arguments(spec_of(bucket), mesh)
            log_memory_plan(memory_plan(steps.get(bucket), groups=groups), name="training step")
        part, parts = parallel.batch_part(mesh)
        with TrainingLog(
            start_step=start,
            total_steps=plan.total_steps,
            log_steps=options.log_steps,
            writers=open_writers(folder, start_step=start),
            epoch_of=lambda step: plan.timeline.at(step).epoch,
        ) as progress:
            state = train(
                state,
                runs=runs,
                steps=steps,
                batches=train_batches(task.samples, plan.epochs, plan.timeline, reading, start, None, part, parts),
                to_devices=functools.partial(parallel.shard_batch, mesh=mesh),
                checkpoints=checkpoints,
                meta=lambda step: {**task.meta, "history": history},
                events=plan.events,
                progress=progress,
                frozen=task.frozen,
                evaluate=Evaluations(task.score, history) if task.score else None,
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
    """The validation scores of a run so far: (state, step) -> the newest, which `history` then ends with."""

    def __init__(self, score: Callable[[TrainState], Mapping[str, float]], history: list[dict[str, float]]):
        self._score, self._history = score, history

    def __call__(self, state: TrainState, step: int) -> Mapping[str, float]:
        """Scores `state` and adds the result to the history."""
        scores = self._score(state)
        self._history[:] = [entry for entry in self._history if entry["step"] < step]
        self._history.append({"step": step, **{name: round(value, 6) for name, value in scores.items()}})
        return scores


def place_state(
    variables: Variables, optimizer: Any, mesh: Mesh, *, param_rules: Rules = (), average: bool = False
) -> TrainState:
    """The state at step 0 on the mesh: on every device, or split as `param_rules` says of the parameters.

    What the optimizer and the average keep of a parameter lies where the parameter does.
    """
    create = functools.partial(create_state, optimizer=optimizer, ema=average)
    shapes = jax.eval_shape(create, variables)
    of_params = parallel.split_by_rules(shapes.params, param_rules, mesh, what="param_rules")
    lay_out = functools.partial(parallel.lay_out, of_params=of_params, mesh=mesh)
    shardings = TrainState(
        step=parallel.replicated(mesh),
        params=lay_out(shapes.params),
        batch_stats=lay_out(shapes.batch_stats),
        opt_state={name: lay_out(kept) for name, kept in shapes.opt_state.items()},
        ema={name: lay_out(kept) for name, kept in shapes.ema.items()},
    )
    return jax.jit(create, out_shardings=shardings)(jax.tree.map(np.asarray, variables))


def resume(
    checkpoints: Checkpoints, state: TrainState, configs: Mapping[str, Any]
) -> tuple[TrainState, list[dict[str, float]]]:
    """The newest intact checkpoint and the scores so far, or `state` and none.

    configs: of the stage (first) and the data, by name. What the run was started with otherwise is told, not refused:
    more epochs or another log interval are fair wishes, and a change made by mistake is seen.
    """
    restored = checkpoints.restore(state)
    if restored is None:
        return state, []
    state, meta = restored
    log.info("going on from step %d (%s)", int(state.step), checkpoints.folder)
    for (name, now), then in zip(configs.items(), (meta.get("config"), meta.get("dataset"))):
        for line in differences(then, now, where=name) if then is not None else ():
            log.warning("not as the run was started: %s", line)
    return state, list(meta.get("history", []))


def count_parameters(state: TrainState) -> int:
    """Returns the number of trained values."""
    return int(sum(np.prod(x.shape) for x in jax.tree.leaves(state.params)))


def log_parameters(state: TrainState, folder: Path) -> None:
    """Logs how many parameters there are, and writes the table of all of them to parameters.txt."""
    leaves, path = len(jax.tree.leaves(state.params)), folder / "parameters.txt"
    if jax.process_index() == 0:
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False, max_lines=None)
        write_file(path, (table + "\n").encode())
    log.info("%d parameters in %d arrays, listed in %s", count_parameters(state), leaves, path)


def compilable(step: Step, state: TrainState, spec: Specs, mesh: Mesh, frozen: Any = ()) -> tuple[Any, Any, Any]:
    """Returns (step, abstract arguments, shardings of the results), for CompiledSteps."""
    shardings = jax.tree.map(lambda x: x.sharding, state), parallel.replicated(mesh)
    step = for_platform(step, mesh.devices.flat[0].platform)  # which may be another machine's, see `ops.platform`
    return step, (abstract(state), batch_arguments(spec, mesh), abstract(frozen)), shardings


def abstract(tree: Any) -> Any:
    """Shapes of arrays, with where they lie."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def batch_arguments(spec: Specs, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the arrays a step is fed, with where they lie."""
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.batch_sharding(mesh, len(shape)))
        for name, (shape, dtype) in spec.items()
    }
