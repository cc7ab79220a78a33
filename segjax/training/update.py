"""The update at the end of every training step: from gradients to the next state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from segjax.training.state import TrainState, update_ema
from segjax.typing import Array

Update = Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Array]]]


def make_update(
    optimizer: optax.GradientTransformation, schedule: Callable[[Array], Array], *, ema_decay: float = 0.0
) -> Update:
    """Builds update(state, gradients, batch_stats) -> (state, metrics).

    optimizer: see `make_optimizer`.
    schedule: step () int32 -> learning rate, for the metrics; the optimizer has its own.
    ema_decay: see `update_ema`; used if the state has an average.

    metrics: lr, grad_norm, and param_norm after the update; () float32 each.
    """

    def update(state: TrainState, grads: Any, batch_stats: Any) -> tuple[TrainState, dict[str, Array]]:
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = {"params": params, "batch_stats": batch_stats}
        ema = update_ema(state.ema, new, step=state.step, decay=ema_decay) if state.ema else state.ema
        norms = {"grad_norm": optax.global_norm(grads), "param_norm": optax.global_norm(params)}
        metrics = {"lr": schedule(state.step), **norms}
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return update
