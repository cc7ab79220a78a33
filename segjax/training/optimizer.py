"""SGD, Adam, AMSGrad and AdamW as PyTorch computes them, with learning rate and decay per group of parameters.

They are written out, not chained from optax, because two differences change trained numbers. The weight decay of SGD,
Adam and AMSGrad is added to the gradient before the moments. AMSGrad keeps the maximum of the uncorrected second
moment. Frozen parameters have no state. The result is an ordinary `optax.GradientTransformation`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from segjax.errors import UserError, did_you_mean
from segjax.parallel.rules import Rules, match_rules
from segjax.typing import Array

_ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
_DEFAULTS = {"sgd": {"momentum": 0.9, "nesterov": False}, "adam": _ADAM, "amsgrad": _ADAM, "adamw": _ADAM}
OPTIONS = {name: (*own, "weight_decay", "clip_norm") for name, own in _DEFAULTS.items()}  # accepted, by optimizer


def make_optimizer(
    name: str,
    schedule: Callable[[Array], Array],
    params: Any,
    lr_rules: Rules = ((".*", 1.0),),
    decay_rules: Rules = ((".*", 1.0),),
    *,
    momentum: float | None = None,
    nesterov: bool | None = None,
    b1: float | None = None,
    b2: float | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Builds an optimizer whose update is exactly PyTorch's, parameter group by parameter group.

    name: "sgd", "adam", "amsgrad" or "adamw".
    schedule: step () int32 -> learning rate () float32 of parameters with multiplier 1.
    params: nested dict of parameters, or of their shapes; only the names are used.
    lr_rules: (regular expression, multiplier of the learning rate), the first match counts. 0 or None freezes: no
        update, no decay, no state.
    decay_rules: (regular expression, multiplier of weight_decay), the first match counts.
    momentum, nesterov: of sgd; default 0.9 and False.
    b1, b2, eps: of the others; default 0.9, 0.999 and 1e-8.
    weight_decay: added to the gradient (sgd, adam, amsgrad), or decoupled and scaled by the learning rate (adamw).
    clip_norm: largest global norm of the gradient of the trained parameters, before decay; None for no limit.

    State: {"count": () int32, moment name: nested dict of the trained parameters, float32}.
    Raises UserError for an unknown name, an option that the optimizer does not take, and a value out of range. Raises
    it also for rules that do not cover all parameters, match none, or freeze all.
    """
    if name not in _DEFAULTS:
        raise UserError(f"optimizer.name={name!r} is not known.{did_you_mean(name, _DEFAULTS)}")
    given = dict(momentum=momentum, nesterov=nesterov, b1=b1, b2=b2, eps=eps)
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in _DEFAULTS[name]:
            raise UserError(f"optimizer option {key} means nothing to {name!r}; remove it.")
    options = {**_DEFAULTS[name], **given}
    _check(name, options, weight_decay, clip_norm)

    rates = _multipliers(params, lr_rules, what="optimizer.lr_rules")
    decays = _multipliers(params, decay_rules, what="optimizer.decay_rules")
    trained = [path for path, rate in rates.items() if rate]
    if not trained:
        raise UserError("optimizer.lr_rules freezes every parameter; give at least one group a rate above 0.")
    decay = {path: weight_decay * decays[path] for path in trained}
    moments = {"sgd": ("trace",), "adam": ("mu", "nu"), "adamw": ("mu", "nu"), "amsgrad": ("mu", "nu", "nu_max")}[name]
    if name == "sgd" and not options["momentum"]:
        moments = ()
    rule = _sgd if name == "sgd" else _adam

    def init(params):
        flat = flax.traverse_util.flatten_dict(params)
        zeros = lambda: {path: jnp.zeros(flat[path].shape, jnp.float32) for path in trained}  # noqa: E731
        state = {moment: flax.traverse_util.unflatten_dict(zeros()) for moment in moments}
        return {"count": jnp.zeros((), jnp.int32), **state}

    def update(grads, state, params=None):
        if params is None:
            raise ValueError("this optimizer needs the parameters: optimizer.update(grads, state, params)")
        structure = jax.tree.structure(params)
        grads, params = flax.traverse_util.flatten_dict(grads), flax.traverse_util.flatten_dict(params)
        old = {moment: flax.traverse_util.flatten_dict(state[moment]) for moment in moments}
        new = {moment: {} for moment in moments}
        updates = {path: jnp.zeros_like(p) for path, p in params.items()}
        lr, count = schedule(state["count"]), state["count"] + 1
        # frozen parameters are not part of the norm: in PyTorch they have no gradient
        scale = _clip_scale([grads[path] for path in trained], clip_norm)
        for path in trained:
            g, p = grads[path].astype(jnp.float32) * scale, params[path]
            own = {moment: old[moment][path] for moment in moments}
            if name != "adamw" and decay[path]:
                g = g + decay[path] * p
            direction, own = rule(g, own, count, **options)
            if name == "adamw" and decay[path]:
                direction = direction + decay[path] * p
            updates[path] = (-lr * rates[path] * direction).astype(p.dtype)
            for moment in moments:
                new[moment][path] = own[moment]
        new = {moment: flax.traverse_util.unflatten_dict(tree) for moment, tree in new.items()}
        updates = flax.traverse_util.unflatten_dict(updates)
        assert jax.tree.structure(updates) == structure
        return updates, {"count": count, **new}

    return optax.GradientTransformation(init, update)


def trainable(params: Any, lr_rules: Rules) -> Any:
    """Returns a tree of bools: whether `lr_rules` trains a parameter; stop the gradient of the others to save time.

    Raises UserError for bad rules, see `make_optimizer`.
    """
    rates = _multipliers(params, lr_rules, what="optimizer.lr_rules")
    return flax.traverse_util.unflatten_dict({path: rate != 0.0 for path, rate in rates.items()})


def _sgd(g: Array, own: dict, count: Array, *, momentum: float, nesterov: bool) -> tuple[Array, dict]:
    # torch.optim.SGD with dampening 0: buf = momentum * buf + g; the learning rate is not part of the buffer
    if not own:
        return g, own
    trace = momentum * own["trace"] + g
    return (g + momentum * trace if nesterov else trace), {"trace": trace}


def _adam(g: Array, own: dict, count: Array, *, b1: float, b2: float, eps: float) -> tuple[Array, dict]:
    # torch.optim.Adam: denominator = sqrt(nu or its maximum) / sqrt(1 - b2^t) + eps
    mu = b1 * own["mu"] + (1.0 - b1) * g
    nu = b2 * own["nu"] + (1.0 - b2) * g * g
    new = {"mu": mu, "nu": nu}
    if "nu_max" in own:
        nu = new["nu_max"] = jnp.maximum(own["nu_max"], nu)
    denominator = jnp.sqrt(nu / _correction(b2, count)) + eps
    return mu / _correction(b1, count) / denominator, new


def _correction(b: float, count: Array) -> Array:
    # 1 - b^t by expm1: in float32 the plain difference loses digits in the first steps
    return -jnp.expm1(count.astype(jnp.float32) * math.log(b)) if b else jnp.ones((), jnp.float32)


def _clip_scale(grads: list[Array], clip_norm: float | None) -> Array:
    if clip_norm is None:
        return jnp.ones((), jnp.float32)
    return jnp.minimum(1.0, clip_norm / (optax.global_norm(grads) + 1e-6))  # 1e-6 as in clip_grad_norm_


def _multipliers(params: Any, rules: Rules, *, what: str) -> dict[tuple[str, ...], float]:
    rules = [
        (*rule[:-1], 0.0) if isinstance(rule, (tuple, list)) and len(rule) == 2 and rule[1] is None else rule
        for rule in rules
    ]
    values = flax.traverse_util.flatten_dict(match_rules(params, rules, what=what))
    for value in values.values():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise UserError(f"{what} contains the value {value!r}; a multiplier is a number of 0 or more, or None.")
    return {path: float(value) for path, value in values.items()}


def _check(name: str, options: dict[str, Any], weight_decay: float, clip_norm: float | None) -> None:
    for key, value in {**options, "weight_decay": weight_decay, "clip_norm": clip_norm or 1.0}.items():
        wanted = (bool, "True or False") if key == "nesterov" else (numbers.Real, "a number")
        if not isinstance(value, wanted[0]):
            raise UserError(f"optimizer option {key}={value!r} must be {wanted[1]}.")
    for key in ("momentum", "b1", "b2"):
        if key in options and not 0.0 <= options[key] < 1.0:
            raise UserError(f"optimizer option {key}={options[key]!r} must be from 0 to below 1.")
    if options.get("nesterov") and not options["momentum"]:
        raise UserError("optimizer option nesterov=True needs a momentum above 0.")
    if not weight_decay >= 0.0:
        raise UserError(f"optimizer option weight_decay={weight_decay!r} must be 0 or more.")
    if clip_norm is not None and not clip_norm > 0.0:
        raise UserError(f"optimizer option clip_norm={clip_norm!r} must be above 0, or None for no limit.")
