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

from segjax.costs.products import value_bytes
from segjax.costs.steps import LOOPS_AND_BRANCHES, Step, scan_carry, traced, write_out

COMPUTED_WHERE_USED = ("broadcast_in_dim", "iota")
UPDATES = ("dynamic_update_slice", "scatter", "scatter-add", "scatter_max", "scatter_min", "scatter_mul")
ARITHMETIC = (
    "abs", "add", "add_any", "and", "ceil", "clamp", "convert_element_type", "cos", "div", "erf", "exp", "exp2",
    "expm1", "floor", "integer_pow", "is_finite", "log", "log1p", "logistic", "max", "min", "mul", "neg", "not", "or",
    "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub", "tan",
    "tanh", "xor",
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

    owned: argument -> bytes, for those that count and are freed after their last use.
    outputs: values that live to the end.
    given: values whose memory the caller counts.
    """
    last = {value: place for place, step in enumerate(steps) for value in step.reads}
    last |= {value: len(steps) for value in outputs}
    live, most = dict(owned), _Walk(sum(owned.values()), 0, dict(owned))
    for place, step in enumerate(steps):
        dying = {value: live[value] for value in step.reads if value in live and last[value] == place}
        new = {value: size for value, size in zip(step.writes, _sizes(step)) if value not in given}
        moved, inside = _control_flow(step, dying) if step.name in LOOPS_AND_BRANCHES else (_moved(step, dying, new), 0)
        kept = {value: size for value, size in live.items() if value not in moved}
        peak = sum(kept.values()) + sum(new.values()) + inside
        if peak > most.peak:
            most = _Walk(peak, place, {**kept, **new})
        live = {value: size for value, size in {**live, **new}.items() if last.get(value, -1) > place}
    return most


def _sizes(step: Step) -> list[int]:
    return [0 if step.name in COMPUTED_WHERE_USED else value_bytes(var.aval) for var in step.eqn.outvars]


def _moved(step: Step, dying: Mapping[int, int], new: Mapping[int, int]) -> set[int]:
    """Returns the dying operand whose memory the result of an update or of arithmetic takes over, if there is one."""
    operands = step.reads[:1] if step.name in UPDATES else step.reads if step.name in ARITHMETIC else ()
    return set([value for value in operands if dying.get(value) in new.values()][:1])


def _control_flow(step: Step, dying: Mapping[int, int]) -> tuple[set[int], int]:
    """Returns the dying operands that a loop or branch takes over, and the bytes inside it beyond those of its results.

    A loop takes over its first carry, a branch its arguments. The results of a loop hold its carry.
    """
    params = step.eqn.params
    if step.name == "cond":
        first, end = 1, len(step.reads)
    elif step.name == "while":
        first, end = params["cond_nconsts"] + params["body_nconsts"], len(step.reads)
    else:
        first, end = scan_carry(params)
    moved = {value for value in step.reads[first:end] if value in dying and step.reads.count(value) == 1}
    carry = sum(value_bytes(var.aval) for var in step.eqn.invars[first:end])
    if step.name == "cond":
        owned = [place for place, value in enumerate(step.reads[1:]) if value in moved]
        inside = max(_peak_inside(branch.jaxpr, owned) for branch in params["branches"])
        return moved, inside - sum(value_bytes(var.aval) for var in step.eqn.outvars)
    if step.name == "while":
        body, condition = params["body_jaxpr"].jaxpr, params["cond_jaxpr"].jaxpr
        rounds = _peak_inside(body, range(params["body_nconsts"], len(body.invars)))
        return moved, max(rounds - carry, _peak_inside(condition, ()))
    body = params["jaxpr"].jaxpr  # the slices of one round belong to it, too
    return moved, _peak_inside(body, range(first, len(body.invars))) - carry


def _peak_inside(jaxpr: Any, owned: Collection[int]) -> int:
    """Returns the peak of a jaxpr with its results and the arguments at the places `owned`, in bytes."""
    steps, outputs = write_out(jaxpr)
    walk = _walk(steps, {place: value_bytes(jaxpr.invars[place].aval) for place in owned}, outputs)
    return max(walk.peak, sum(value_bytes(var.aval) for var in jaxpr.outvars))  # the latter if a result is a copy


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
