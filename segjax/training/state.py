"""Everything the next training step needs, as one pytree."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from segjax.typing import Array, Variables


@flax.struct.dataclass
class TrainState:
    """step: () int32, number of updates done. ema: {"params", "batch_stats"} averaged, or {} when EMA is off."""

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
        """The averaged variables where there are any, else the trained ones; these are evaluated and exported."""
        return self.ema if self.ema else self.variables


def create_state(variables: Variables, optimizer: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """Starts training from `variables` at step 0; the EMA is a copy, because donated buffers must not be aliased."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)


def update_ema(ema: Any, variables: Variables, *, step: Array, decay: float) -> Any:
    """ema * d + variables * (1 - d) with d = min(decay, (1 + step) / (10 + step)), so that the start fades."""
    d = jnp.minimum(decay, (1.0 + step) / (10.0 + step)).astype(jnp.float32)
    return jax.tree.map(lambda e, v: e * d + v * (1.0 - d), ema, dict(variables))
