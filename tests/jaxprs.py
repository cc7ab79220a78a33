"""The operations of a traced program."""

from collections.abc import Iterator

import jax
from jax.extend.core import Jaxpr, JaxprEqn


def operations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Yields the operations of a program and of all programs inside it: loops, calls, branches."""
    for eqn in jaxpr.eqns:
        yield eqn
        for param in eqn.params.values():
            for one in param if isinstance(param, (tuple, list)) else (param,):
                inner = getattr(one, "jaxpr", one)  # of a closed one
                if isinstance(inner, Jaxpr):
                    yield from operations(inner)


def results(function, *args, dtype) -> list[tuple[int, ...]]:
    """Shapes of all results of one type in the program of function(*args)."""
    eqns = operations(jax.make_jaxpr(function)(*args).jaxpr)
    return [v.aval.shape for eqn in eqns for v in eqn.outvars if getattr(v.aval, "dtype", None) == dtype]
