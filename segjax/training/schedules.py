"""Learning-rate schedules: functions of the step, traced by jit. See `make_schedule` for their arguments."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError, did_you_mean
from segjax.typing import Array

Schedule = Callable[[Array], Array]
log = logging.getLogger("segjax")


# position: steps or epochs done, a whole number in float32, so that comparisons are exact. total: those of the run.


def poly(position: Array, total: int, *, power: float = 0.9, final: float = 0.0) -> Array:
    """Returns final + (1 - final) (1 - t)^power with t = position / total (Liu et al., ParseNet, 2015)."""
    left = (total - position) / total  # 1 - position / total may round below 0 at the end; its power is NaN then
    return final + (1.0 - final) * left**power


def cosine(position: Array, total: int, *, final: float = 0.0) -> Array:
    """Returns half a cosine from 1 to `final` (Loshchilov and Hutter, SGDR, 2017)."""
    return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * position / total))


def scl_poly(
    position: Array, total: int, *, restart: float, power: float = 1.0, restart_power: float = 1.5, rescale: float = 1.0
) -> Array:
    """Returns (1 - t)^power before the position `restart`, and rescale * (1 - t')^restart_power from it on.

    t = position / total; t' rises from 0 at `restart` to 1 at the end. This is the schedule of the code released with
    VPLR: at epoch 100 of 175 label relaxation ends and the learning rate restarts.
    """
    later = jnp.clip((position - restart) / (total - restart), 0.0, 1.0)
    left = (total - position) / total
    return jnp.where(position < restart, left**power, rescale * (1.0 - later) ** restart_power)


def steps(position: Array, total: int, *, factor: float, every: int) -> Array:
    """Returns factor^n after n times `every` steps or epochs (GSVNet: 0.992 every 100 steps)."""
    return factor ** jnp.floor(position / every)


def make_schedule(
    kind: str,
    base_lr: float,
    total_steps: int,
    epoch_starts: Sequence[int] | None = None,
    warmup_steps: int = 0,
    *,
    per: str = "step",
    power: float | None = None,
    final: float | None = None,
    restart_epoch: float | None = None,
    restart_power: float | None = None,
    rescale: float | None = None,
    factor: float | None = None,
    every: int | None = None,
    warmup_start: float = 0.0,
) -> Schedule:
    """Builds step () int -> learning rate () float32.

    kind: "constant"; "poly" or "cosine", which decrease to `final`; "scl_poly", a poly that restarts; "steps",
        which multiplies the rate by `factor` at regular steps.
    base_lr: learning rate that the schedule's factor is multiplied with.
    total_steps: steps of the run.
    epoch_starts: first step of each epoch, (epochs,); a crop schedule makes epochs of different lengths.
    warmup_steps: w, 0 for none. The rate of step s < w is multiplied by warmup_start + (1 - warmup_start) (s + 1) / w.
    per: "step": the position in the run is step / total_steps. "epoch": it is epoch / epochs, constant in an epoch.
    power: of poly (0.9) and scl_poly (1).
    final: fraction of base_lr at the end; of poly and cosine.
    restart_epoch: epoch at which scl_poly restarts.
    restart_power, rescale: of scl_poly after its restart; 1.5 and 1.
    factor, every: of "steps": factor, and after how many steps (epochs, if per="epoch"); it needs both.
    warmup_start: factor before the first step of the warm-up, 0..1.

    Raises UserError for an unknown kind, an option that `kind` does not take, a value out of range, and for
    per="epoch" or scl_poly without epoch_starts.
    """
    given = dict(power=power, final=final, restart_power=restart_power, rescale=rescale, restart_epoch=restart_epoch)
    given |= dict(factor=factor, every=every)
    given = {name: value for name, value in given.items() if value is not None}
    if kind not in _KINDS:
        raise UserError(f"schedule.kind={kind!r} is not known.{did_you_mean(kind, _KINDS)}")
    function, takes = _KINDS[kind]
    for name in given:
        if name not in takes:
            raise UserError(f"schedule.{name} means nothing to the {kind!r} schedule; remove it.")
        if not isinstance(given[name], numbers.Real) or not 0 <= given[name] < math.inf:
            raise UserError(f"schedule.{name}={given[name]!r} must be a number of 0 or more.")
    if per not in ("step", "epoch"):
        raise UserError(f"schedule.per={per!r} is not known; choose 'step' or 'epoch'.")
    if total_steps < 1 or warmup_steps < 0 or not 0.0 <= warmup_start <= 1.0:
        raise UserError(
            f"schedule with total_steps={total_steps}, warmup_steps={warmup_steps}, warmup_start={warmup_start}: "
            "give 1 step or more, and a warmup_start between 0 and 1."
        )
    if warmup_steps >= total_steps and warmup_steps:
        log.warning("all %d steps are learning-rate warm-up (%d steps)", total_steps, warmup_steps)

    starts = None if epoch_starts is None else _checked_starts(epoch_starts)
    if kind == "steps" and not (given.get("every", 0) >= 1 and "factor" in given):
        raise UserError("the 'steps' schedule needs factor, and every, a number of 1 or more.")
    if kind == "scl_poly":
        given["restart"] = _restart(given.pop("restart_epoch", None), per, starts)
    if per == "epoch" and starts is None:
        raise UserError("a schedule per epoch needs the first step of each epoch.")
    total = total_steps if per == "step" else len(starts)

    def position(step: Array) -> Array:
        if per == "step":
            return step
        return jnp.searchsorted(jnp.asarray(starts, jnp.int32), step, side="right") - 1

    def schedule(step: Array) -> Array:
        step = jnp.asarray(step, jnp.int32)
        factor = function(jnp.clip(position(step), 0, total).astype(jnp.float32), total, **given)
        if warmup_steps:
            ramp = jnp.minimum((step + 1).astype(jnp.float32) / warmup_steps, 1.0)
            factor = factor * (warmup_start + (1.0 - warmup_start) * ramp)
        return jnp.asarray(base_lr * factor, jnp.float32)

    return schedule


def _constant(position: Array, total: int) -> Array:
    return jnp.ones_like(position)


_KINDS: dict[str, tuple[Callable[..., Array], tuple[str, ...]]] = {
    "constant": (_constant, ()),
    "poly": (poly, ("power", "final")),
    "cosine": (cosine, ("final",)),
    "scl_poly": (scl_poly, ("power", "restart_epoch", "restart_power", "rescale")),
    "steps": (steps, ("factor", "every")),
}

OPTIONS = {kind: takes for kind, (_, takes) in _KINDS.items()}  # accepted by each kind only, beside those of all


def _checked_starts(epoch_starts: Sequence[int]) -> np.ndarray:
    starts = np.asarray(epoch_starts)
    if starts.ndim != 1 or not len(starts) or starts[0] != 0 or (np.diff(starts) <= 0).any():
        raise ValueError(f"epoch_starts must rise from 0, got {epoch_starts}")
    return starts


def _restart(epoch: float | None, per: str, starts: np.ndarray | None) -> float:
    if epoch is None or starts is None:
        raise UserError("the 'scl_poly' schedule needs restart_epoch, and the first step of each epoch.")
    if not 0 < epoch < len(starts):
        raise UserError(f"schedule.restart_epoch={epoch} must lie inside the {len(starts)} epochs of the run.")
    if per == "epoch":
        return float(epoch)
    return float(np.interp(epoch, np.arange(len(starts)), starts))
