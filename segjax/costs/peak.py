"""Peak of a program's memory, read from its jaxpr: nothing is compiled or run, and no accelerator is needed.

The walk takes the equations in the order in which JAX emits them, after dead-code elimination. A value takes memory
from the equation that computes it to its last use. Calls (jit, remat, custom gradients), loops and branches are
entered. As in XLA, three kinds of results take no memory of their own:

- another view of a value: a reshape, a barrier;
- a broadcast value or a range, which is computed where it is used;
- what is written into an operand that is not used later: an update (a slice written into a value, a scatter), or
  arithmetic on values of the same size.

Unlike XLA, the walk neither reorders nor fuses equations: each intermediate value of a formula counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from segjax.costs.modules import value_bytes
from segjax.costs.steps import Step, traced, write_out

COMPUTED_WHERE_USED = ("broadcast_in_dim", "iota")
UPDATES = ("dynamic_update_slice", "scatter", "scatter-add", "scatter_max", "scatter_min", "scatter_mul")
ARITHMETIC = (
    "abs", "add", "add_any", "and", "ceil", "clamp", "convert_element_type", "cos", "div", "erf", "exp", "exp2", "expm1",
    "floor", "integer_pow", "is_finite", "log", "log1p", "logistic", "max", "min", "mul", "neg", "not", "or", "pow",
    "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub", "tan", "tanh",
    "xor",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Held:
    """A value that takes memory at the peak.

    size: in bytes.
    what: its type and the primitive that computed it.
    scope: names of the modules that computed it, such as jvp(Net)/layer1.0.
    """

    size: int
    what: str
    scope: str


@dataclasses.dataclass(frozen=True)
class Peak:
    """Memory of a program in bytes.

    temporaries: the largest sum, at any time, of the values that are neither arguments nor results.
    arguments, results: of the program, all of them.
    scope: names of the modules that run at the time of the peak.
    held: the values that add up to `temporaries`, the largest first; the inside of a loop counts as one.
    """

    temporaries: int
    arguments: int
    results: int
    scope: str
    held: tuple[Held, ...]


def peak_memory(function: Callable[..., Any], *arguments: Any) -> Peak:
    """Returns the peak of the memory of function(*arguments); arguments: pytrees of arrays or shapes."""
    jaxpr = traced(function, *arguments)
    steps, outputs = write_out(jaxpr)
    walk = _walk(steps, {}, outputs, given=set(outputs))
    return Peak(
        temporaries=walk.peak,
        arguments=sum(value_bytes(var.aval) for var in jaxpr.invars),
        results=sum(value_bytes(var.aval) for var in jaxpr.outvars),
        scope=steps[walk.place].scope if steps else "",
        held=_held(steps, walk),
    )


@dataclasses.dataclass(frozen=True)
class _Walk:
    """The peak of a list of steps in bytes, its place in the list, and the live values then with their bytes."""

    peak: int
    place: int
    live: Mapping[int, int]


def _walk(
    steps: Sequence[Step], owned: Mapping[int, int], outputs: Collection[int | None], given: Collection[int | None] = ()
) -> _Walk:
    """Returns the largest sum of the live values.

    owned: argument -> bytes, for those that take memory and are freed after their last use. The others do not count.
    outputs: values that live to the end.
    given: values whose memory the caller has; they do not count.
    """
    last = {value: place for place, step in enumerate(steps) for value in step.reads}
    last |= {value: len(steps) for value in outputs}
    live = {value: size for value, size in owned.items() if value in last}
    most = _Walk(sum(owned.values()), 0, dict(owned))
    for place, step in enumerate(steps):
        dying = {value: live[value] for value in step.reads if value in live and last[value] == place}
        new = {value: size for value, size in zip(step.writes, _sizes(step)) if value not in given}
        moved = _moved(step, dying, new)
        during = sum(live.values()) + sum(new.values()) - sum(moved.values()) + _inside(step, dying)
        if during > most.peak:
            kept = {value: size for value, size in live.items() if value not in moved}
            most = _Walk(during, place, {**kept, **new})
        live = {value: size for value, size in {**live, **new}.items() if last.get(value, -1) > place}
    return most


def _sizes(step: Step) -> list[int]:
    free = step.name in COMPUTED_WHERE_USED
    return [0 if free else value_bytes(var.aval) for var in step.eqn.outvars]


def _moved(step: Step, dying: Mapping[int, int], new: Mapping[int, int]) -> dict[int, int]:
    """Returns the dying operands whose memory a result of the step takes over."""
    if step.name in ("scan", "while", "cond"):
        return {value: dying[value] for value in _owned(step, dying)}
    if step.name not in (*UPDATES, *ARITHMETIC):
        return {}
    operands = step.reads[:1] if step.name in UPDATES else step.reads
    fitting = [value for value in operands if dying.get(value) and dying[value] in new.values()]
    return {value: dying[value] for value in fitting[:1]}


def _owned(step: Step, dying: Mapping[int, int]) -> list[int]:
    """Returns the dying operands that a loop takes over as its first carry, or a branch as its arguments."""
    first, end = _carried(step)
    operands = step.reads[first:end]
    return [value for value in dying if step.reads.count(value) == 1 and value in operands]


def _carried(step: Step) -> tuple[int, int]:
    params = step.eqn.params
    if step.name == "scan":
        return params["num_consts"], params["num_consts"] + params["num_carry"]
    if step.name == "while":
        return params["cond_nconsts"] + params["body_nconsts"], len(step.reads)
    return 1, len(step.reads)


def _inside(step: Step, dying: Mapping[int, int]) -> int:
    """Returns the bytes that run inside a loop or branch, beyond its results; 0 for other steps."""
    params, (first, end) = step.eqn.params, _carried(step) if step.name in ("scan", "while", "cond") else (0, 0)
    carry = sum(value_bytes(var.aval) for var in step.eqn.invars[first:end])
    if step.name == "scan":  # the carry and the slice of this round belong to the body
        body = params["jaxpr"].jaxpr
        return _peak_inside(body, range(first, len(body.invars))) - carry
    if step.name == "while":
        constants = params["body_nconsts"]
        body, cond = params["body_jaxpr"].jaxpr, params["cond_jaxpr"].jaxpr
        running = _peak_inside(body, range(constants, len(body.invars)))
        return max(running, carry + _peak_inside(cond, ())) - carry
    if step.name == "cond":
        taken = _owned(step, dying)
        owned = [place for place, value in enumerate(step.reads[1:]) if value in taken]
        results = sum(value_bytes(var.aval) for var in step.eqn.outvars)
        return max(_peak_inside(branch.jaxpr, owned) for branch in params["branches"]) - results
    return 0


def _peak_inside(jaxpr: Any, owned: Collection[int]) -> int:
    """Returns the peak of a jaxpr with its results and the arguments at the places `owned`, in bytes."""
    steps, outputs = write_out(jaxpr)
    sizes = {place: value_bytes(jaxpr.invars[place].aval) for place in owned}
    made = {value for step in steps for value in step.writes} | sizes.keys()
    # an argument of the caller that is a result too, or a value that is two results, is copied
    copies = [var for place, (var, value) in enumerate(zip(jaxpr.outvars, outputs)) if value not in made or value in outputs[:place]]
    at_end = sum(value_bytes(var.aval) for var in jaxpr.outvars)
    return max(_walk(steps, sizes, outputs).peak, at_end) if copies else _walk(steps, sizes, outputs).peak


def _held(steps: Sequence[Step], walk: _Walk) -> tuple[Held, ...]:
    made = {value: (step, var) for step in steps for value, var in zip(step.writes, step.eqn.outvars)}
    held = []
    for value, size in walk.live.items():
        step, var = made[value]
        held.append(Held(size, f"{var.aval.str_short()} {step.name}", step.scope))
    if inside := walk.peak - sum(walk.live.values()):
        step = steps[walk.place]
        held.append(Held(inside, f"inside {step.name}", step.scope))
    return tuple(sorted((one for one in held if one.size), key=lambda one: -one.size))
