"""The state of a training: all that the next step needs, as one pytree."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from segjax.typing import Array, Variables


@flax.struct.dataclass
class TrainState:
    """State of a training between two steps.

    step: () int32, updates done.
    params, batch_stats: nested dicts, the variables as trained.
    opt_state: of the optimizer, see `make_optimizer`.
    ema: {"params", "batch_stats"}, exponential moving averages, or {} without.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    @property
    def variables(self) -> Variables:
        """The variables as trained."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def best_variables(self) -> Variables:
        """The averaged variables, or the trained ones without an average; these are evaluated and exported."""
        return self.ema if self.ema else self.variables


def create_state(variables: Variables, optimizer: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """Returns the state at step 0.

    variables: to start from.
    optimizer: see `make_optimizer`.
    ema: whether to average the variables.
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # a copy, because the step donates the state and a buffer can be donated once only
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)


def update_ema(ema: Any, variables: Variables, *, step: Array, decay: float) -> Any:
    """Returns ema * d + variables * (1 - d) with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps lowers the weight of the initial variables.
    """
    d = jnp.minimum(decay, (1.0 + step) / (10.0 + step)).astype(jnp.float32)
    return jax.tree.map(lambda e, v: e * d + v * (1.0 - d), ema, dict(variables))
