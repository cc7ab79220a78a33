"""What every training stage does the same way: first state, resuming, steps, scores, checkpoints, log."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import parallel
from segjax.errors import UserError
from segjax.files import differences
from segjax.stages import build
from segjax.stages.config import durations
from segjax.stages.config.keys import check_keys, check_numbers
from segjax.stages.run_plan import Timetable, read_crop
from segjax.training.checkpoints import Checkpoints
from segjax.training.compiled import CompiledSteps
from segjax.training.logging import TrainingLog
from segjax.training.loop import train
from segjax.training.memory import log_memory_plan, memory_plan
from segjax.training.metric_files import open_writers
from segjax.training.state import TrainState, create_state
from segjax.typing import Variables

log = logging.getLogger("segjax")

OPTIMIZER_KEYS = ("name", "lr", "options", "schedule", "lr_rules", "decay_rules")
Specs = Mapping[str, tuple[tuple[int, ...], Any]]  # array -> (shape, dtype)


def check_training(settings: Mapping[str, Any], *, where: str) -> None:
    """Raises UserError for what is wrong in the settings that all training stages have; reads nothing."""
    read_crop(settings["crop"], where=f"{where}.crop")
    check_numbers(settings, ("batch_size", "accumulate_steps", "keep"), where=where, low=1)
    check_numbers(settings, ("log_steps", "eval_limit"), where=where, low=0)
    check_numbers(settings, ("ema_decay",), where=where, low=0, below=1, whole=False)
    check_keys(settings["optimizer"], OPTIMIZER_KEYS, where=f"{where}.optimizer", required=("name", "lr"))
    check_numbers(settings["optimizer"], ("lr",), where=f"{where}.optimizer", low=0, whole=False)
    check_keys(settings.get("mesh", {}), ("data", "space"), where=f"{where}.mesh")
    check_keys(settings.get("init", {}), build.INIT_KEYS, where=f"{where}.init")
    build.compute_dtype(settings.get("dtype", "auto"))
    for name in ("total", "checkpoint", "eval"):
        found = durations.find_duration(settings, name, where=where)
        if name == "total" and (found is None or not found[0]):
            raise UserError(f"config {where} needs a length: one of total_epochs, _steps or _examples, above 0.")


def run_steps(
    settings: Mapping[str, Any],
    context: Any,
    *,
    table: Timetable,
    state: TrainState,
    steps: CompiledSteps,
    batch_spec: Callable[[Any], Specs],
    batches: Callable[[int], Iterator[tuple[int, Mapping[str, np.ndarray]]]],
    mesh: Mesh,
    meta: Mapping[str, Any],
    score: Callable[[TrainState], Mapping[str, float]] | None,
    names: Callable[[int], str],
    extra_arrays: Mapping[str, Any] | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """Runs the steps that are left, from the newest checkpoint of the stage, to the end of the timetable.

    batch_spec: bucket -> shapes of a global batch. batches: first step -> batches from there on. meta: what checkpoints
    say about themselves, with "config" and "dataset". extra_arrays: on the devices, given to every step with its batch.
    Returns the last state and {"history": scores of the run, and the log's summary}.
    """
    with Checkpoints(context.folder / "checkpoints", keep=settings.get("keep", 2)) as checkpoints:
        state, history = resume(checkpoints, state, {context.name: meta["config"], "dataset": meta["dataset"]})
        start = int(state.step)
        if start >= table.total_steps:
            log.info("nothing left to train: step %d of %d", start, table.total_steps)
        runs = table.timeline.runs(start)
        if runs:
            bucket = runs[0].bucket
            groups = {"parameters": state.variables, "optimizer": state.opt_state, "average": state.ema}
            groups["batch"] = batch_arguments(batch_spec(bucket), mesh)
            log_memory_plan(memory_plan(steps.get(bucket), groups=groups), name="training step")
        put = functools.partial(parallel.shard_batch, mesh=mesh)
        with TrainingLog(
            start_step=start,
            total_steps=table.total_steps,
            log_steps=settings.get("log_steps", 10),
            writers=open_writers(context.folder, start_step=start),
            epoch_of=lambda step: table.timeline.at(step).epoch,
        ) as progress:
            state = train(
                state,
                runs=runs,
                steps=steps,
                batches=batches(start),
                to_devices=(lambda batch: put(batch) | extra_arrays) if extra_arrays else put,
                checkpoints=checkpoints,
                meta=lambda step: {**meta, "history": history},
                events=table.events,
                progress=progress,
                evaluate=Evaluations(score, history) if score else None,
                names=names,
                parts=parallel.batch_part(mesh)[1],
            )
    steps.close()
    return state, {**progress.summary(), "history": history}


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


def place_state(settings: Mapping[str, Any], variables: Variables, optimizer: Any, mesh: Mesh) -> TrainState:
    """The state at step 0 on the mesh: on every device, or split as `param_rules` says of the parameters.

    What the optimizer and the average keep of a parameter lies where the parameter does.
    """
    rules, average = tuple(settings.get("param_rules", ())), settings.get("ema_decay", 0.0) > 0
    create = functools.partial(create_state, optimizer=optimizer, ema=average)
    shapes = jax.eval_shape(create, variables)
    of_params = parallel.split_by_rules(shapes.params, rules, mesh, what="param_rules")
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


def compilable(step: Callable, state: TrainState, spec: Specs, mesh: Mesh, **extra: Any) -> tuple[Any, Any, Any]:
    """(step function, abstract arguments, output shardings), for CompiledSteps; extra: arrays beside a batch."""
    shardings = jax.tree.map(lambda x: x.sharding, state), parallel.replicated(mesh)
    batch = batch_arguments(spec, mesh) | abstract(extra)
    return step, (abstract(state), batch), shardings


def abstract(tree: Any) -> Any:
    """Shapes of arrays, with where they lie."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def batch_arguments(spec: Specs, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the arrays a step is fed, with where they lie."""
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.batch_sharding(mesh, len(shape)))
        for name, (shape, dtype) in spec.items()
    }
