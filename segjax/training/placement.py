"""Where the arrays of a training lie on a mesh: its state, batches and results, as arrays or as shapes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import parallel
from segjax.ops import for_platform
from segjax.ops.row_parts import in_row_parts
from segjax.parallel.rules import Rules
from segjax.training.state import TrainState, create_state
from segjax.training.step import Step
from segjax.typing import Variables

Specs = Mapping[str, tuple[tuple[int, ...], Any]]  # array -> (shape, dtype)


def place_state(
    variables: Variables, optimizer: Any, mesh: Mesh, *, param_rules: Rules = (), average: bool = False
) -> TrainState:
    """Returns the state at step 0 on the mesh: replicated, or with parameters split by `param_rules`.

    Optimizer state and average of a parameter are placed like the parameter.

    variables: to start from.
    optimizer: see `make_optimizer`.
    mesh: of devices.
    param_rules: (regular expression, axes), see `parallel.split_by_rules`.
    average: whether the state has a moving average of the variables.

    Raises UserError for rules that do not fit the parameters or the mesh.
    """
    shapes = abstract_state(variables, optimizer, mesh, param_rules=param_rules, average=average)
    create = functools.partial(create_state, optimizer=optimizer, ema=average)
    # created by a jitted function, so that each array is placed once and none shares a buffer with another
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    return jax.jit(create, out_shardings=shardings)(jax.tree.map(np.asarray, variables))


def abstract_state(
    variables: Variables, optimizer: Any, mesh: Mesh, *, param_rules: Rules = (), average: bool = False
) -> TrainState:
    """Returns the shapes, dtypes and shardings of the state of `place_state`; the mesh may be another machine's.

    variables: arrays, or their shapes.
    optimizer, mesh, param_rules, average: see `place_state`.

    Raises UserError as `place_state` does.
    """
    shapes = jax.eval_shape(functools.partial(create_state, optimizer=optimizer, ema=average), variables)
    of_params = parallel.split_by_rules(shapes.params, param_rules, mesh, what="param_rules")
    lay_out = functools.partial(parallel.lay_out, of_params=of_params, mesh=mesh)
    shardings = TrainState(
        step=parallel.replicated(mesh),
        params=lay_out(shapes.params),
        batch_stats=lay_out(shapes.batch_stats),
        opt_state={name: lay_out(kept) for name, kept in shapes.opt_state.items()},
        ema={name: lay_out(kept) for name, kept in shapes.ema.items()},
    )
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
    return jax.tree.map(place, shapes, shardings)


def compilable(step: Step, state: TrainState, spec: Specs, mesh: Mesh, frozen: Any = ()) -> tuple[Any, Any, Any]:
    """Returns (step, abstract arguments, shardings of the results), for `CompiledSteps`.

    step: (state, batch, frozen) -> (state, metrics).
    state: on the mesh; the new state is placed like it.
    spec: of the batch, see `data.batch_spec`.
    mesh: of devices.
    frozen: on the mesh.
    """
    # the new state is placed like the old one, which it replaces in memory: else donation would copy
    shardings = jax.tree.map(lambda x: x.sharding, state), parallel.replicated(mesh)
    step = for_platform(step, mesh.devices.flat[0].platform)  # which may be another machine's, see `ops.platform`
    step = in_row_parts(step, parallel.axis_size(mesh, "space"))
    return step, (abstract(state), batch_arguments(spec, mesh), abstract(frozen)), shardings


def argument_groups(state: TrainState, frozen: Any, batch: Any) -> dict[str, Any]:
    """Returns the arguments of a step by name, for `memory_plan`; arrays, or shapes with shardings."""
    groups = {"parameters": state.variables, "optimizer": state.opt_state, "average": state.ema}
    return {**groups, **({"frozen": frozen} if frozen else {}), "batch": batch}


def abstract(tree: Any) -> Any:
    """Returns the shapes, dtypes and shardings of arrays, or of shapes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def batch_arguments(spec: Specs, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes, dtypes and shardings of a batch's arrays on the mesh; spec: see `data.batch_spec`."""
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.batch_sharding(mesh, len(shape)))
        for name, (shape, dtype) in spec.items()
    }
