"""A jaxpr as a list of steps, with all calls written out: those of jit, remat and custom gradients."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval

# the result is its operand with another shape or name
VIEWS = {"bitcast_convert_type", "name", "optimization_barrier", "reshape", "sharding_constraint", "squeeze"}
LOOPS_AND_BRANCHES = ("scan", "while", "cond")


@dataclasses.dataclass(frozen=True)
class Step:
    """One equation that computes something.

    eqn: of the jaxpr.
    reads: number of each operand, None for literals and constants.
    writes: number of each result.
    scope: names of the running modules, such as jvp(Net)/layer1.0.
    """

    eqn: Any
    reads: tuple[int | None, ...]
    writes: tuple[int, ...]
    scope: str

    @property
    def name(self) -> str:
        """Name of the primitive."""
        return self.eqn.primitive.name


def traced(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the jaxpr of function(*arguments) after dead-code elimination; arguments: pytrees of arrays or shapes."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)[0]


def write_out(jaxpr: Any) -> tuple[list[Step], list[int | None]]:
    """Returns the steps of a jaxpr, in its order, and the numbers of its results.

    Its arguments have the numbers 0, 1, ...; a view has the number of the value that it shows. Loops and branches are
    single steps.
    """
    steps: list[Step] = []
    numbers = itertools.count(len(jaxpr.invars))

    def add(jaxpr: Any, arguments: Sequence[int | None], scope: str) -> list[int | None]:
        number: dict[Any, int | None] = dict(zip(jaxpr.invars, arguments))

        def read(var):
            return None if isinstance(var, core.Literal) else number.get(var)  # None: a constant of the program

        for eqn in jaxpr.eqns:
            reads = [read(var) for var in eqn.invars]
            own = "/".join(filter(None, (scope, str(eqn.source_info.name_stack))))
            if (called := _called(eqn)) is not None:
                writes = add(called, reads, own)
            elif _is_view(eqn):
                writes = reads
            else:
                writes = [next(numbers) for _ in eqn.outvars]
                steps.append(Step(eqn, tuple(reads), tuple(writes), own))
            number.update(zip(eqn.outvars, writes))
        return [read(var) for var in jaxpr.outvars]

    return steps, add(jaxpr, range(len(jaxpr.invars)), "")


def scan_carry(params: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the places of the first carry and of the first slice among the operands of a scan with these params."""
    if "ft_in" in params:  # jax 0.11 and later
        consts, carry, _ = map(len, params["ft_in"].unpack())
    else:
        consts, carry = params["num_consts"], params["num_carry"]
    return consts, consts + carry


def _called(eqn: Any) -> Any | None:
    """Returns the jaxpr that an equation runs once on its operands; None if it does something else."""
    if eqn.primitive.name in LOOPS_AND_BRANCHES:
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = getattr(eqn.params.get(key), "jaxpr", eqn.params.get(key))
        if hasattr(inner, "eqns"):
            # the sum of `reduce` is a jaxpr of scalars: no call
            sides = (inner.invars, eqn.invars), (inner.outvars, eqn.outvars)
            if all([_type(var) for var in mine] == [_type(var) for var in theirs] for mine, theirs in sides):
                return inner
    return None


def _is_view(eqn: Any) -> bool:
    if eqn.primitive.name == "broadcast_in_dim":  # a new axis of length 1
        return eqn.invars[0].aval.size == eqn.outvars[0].aval.size
    if eqn.primitive.name == "convert_element_type":
        return _type(eqn.invars[0]) == _type(eqn.outvars[0])
    return eqn.primitive.name in VIEWS


def _type(var: Any) -> tuple[Any, ...]:
    return getattr(var.aval, "shape", ()), getattr(var.aval, "dtype", None)
