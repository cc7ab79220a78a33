"""Products of activations with kernels in a jaxpr, by the module of the kernel.

Each variable is either an activation, or made of parameters and constants only. The latter are followed with the
kernels and scales that they contain. Multiply-adds are products of an activation with a value made of a kernel. As is
usual, products with constants (resizing) and BatchNorm, which folds into the convolution, are not counted. The values
that enter a BatchNorm are counted apart, for papers that add one operation for each.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.extend import core

from segjax.costs.steps import scan_carry

# leaves whose products with activations are counted, and their kind; scales are those of batch norms
KINDS = {"kernel": "kernel", "kernel_t": "kernel", "scale": "scale"}
PRODUCTS = ("conv_general_dilated", "dot_general", "mul")
OTHER = "(products of activations)"


@dataclasses.dataclass
class Cost:
    """Cost of a module for one batch.

    parameters: number of values.
    multiply_adds: number in one forward pass.
    norm_values: number of values that enter a batch norm.
    activation_bytes: size of the outputs of its convolutions.
    saved_bytes: size of what training keeps for the backward pass; filled from `saved_for_backward`.
    """

    parameters: int = 0
    multiply_adds: int = 0
    norm_values: int = 0
    activation_bytes: int = 0
    saved_bytes: int = 0

    def __iadd__(self, other: Cost) -> Cost:
        for field in dataclasses.fields(Cost):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self


class Leaves(frozenset):
    """Kernels and scales in a value without activations, as (leaf, module); empty for constants and other leaves."""

    def owner(self, leaf: str) -> str:
        """Returns the module of the first kernel or scale, "" without one."""
        return min((module for kind, module in self if kind == leaf), default="")


ACTIVATION = None


def counted_products(jaxpr: Any, inputs: list[Leaves | None]) -> dict[str, Cost]:
    """Returns module -> products of a jaxpr; inputs: kind of each argument, ACTIVATION or the leaf that it is."""
    counted: dict[str, Cost] = {}
    _walk_jaxpr(jaxpr, inputs, 1, counted)
    return counted


def _join(kinds):
    return ACTIVATION if any(kind is ACTIVATION for kind in kinds) else Leaves(frozenset().union(*kinds))


def _walk_jaxpr(jaxpr, inputs, times: int, counted: dict[str, Cost]):
    """Adds the products of a jaxpr that runs `times` times to `counted`; returns the kinds of its outputs."""
    kinds = dict(zip(jaxpr.invars, inputs))

    def kind_of(var):
        return Leaves() if isinstance(var, core.Literal) else kinds.get(var, Leaves())

    for eqn in jaxpr.eqns:
        operands = [kind_of(var) for var in eqn.invars]
        inner = _inner(eqn)
        if inner is not None:
            outputs = _walk_inner_jaxprs(eqn, inner, operands, times, counted)
        else:
            outputs = [_join(operands)] * len(eqn.outvars)
            if eqn.primitive.name in PRODUCTS and any(kind is ACTIVATION for kind in operands):
                _count_products(eqn, operands, times, counted)
        kinds.update(zip(eqn.outvars, outputs))
    return [kind_of(var) for var in jaxpr.outvars]


def _inner(eqn) -> list | None:
    """Returns the jaxprs that an equation calls, or None."""
    name = eqn.primitive.name
    if name == "cond":
        return list(eqn.params["branches"])
    if name == "while":
        return [eqn.params["body_jaxpr"]]
    found = [eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params]
    return found[:1] or None


def _walk_inner_jaxprs(eqn, inner, operands, times, counted):
    name, jaxprs = eqn.primitive.name, [getattr(j, "jaxpr", j) for j in inner]
    if name == "cond":  # the most expensive branch: a device must be able to run it
        results = []
        for jaxpr in jaxprs:
            branch: dict[str, Cost] = {}
            outputs = _walk_jaxpr(jaxpr, operands[1:], times, branch)
            results.append((sum(cost.multiply_adds for cost in branch.values()), len(results), branch, outputs))
        _, _, branch, _ = max(results)
        for module, cost in branch.items():
            counted.setdefault(module, Cost()).__iadd__(cost)
        return [_join(kinds) for kinds in zip(*(result[3] for result in results))]
    if name == "while":
        operands = operands[eqn.params["cond_nconsts"] :]
        consts, carry = operands[: eqn.params["body_nconsts"]], operands[eqn.params["body_nconsts"] :]
        carry = _settle(jaxprs[0], consts, carry, [])
        return _walk_jaxpr(jaxprs[0], [*consts, *carry], times, counted)
    if name == "scan":
        first, last = scan_carry(eqn.params)
        consts, carry, slices = operands[:first], operands[first:last], operands[last:]
        carry = _settle(jaxprs[0], consts, carry, slices)
        return _walk_jaxpr(jaxprs[0], [*consts, *carry, *slices], times * eqn.params["length"], counted)
    return _walk_jaxpr(jaxprs[0], operands[-len(jaxprs[0].invars) :] if jaxprs[0].invars else [], times, counted)


def _settle(jaxpr, consts, carry, slices):
    """Returns the kinds of the carry after enough rounds: a sum that starts as zeros becomes an activation."""
    while True:
        after = _walk_jaxpr(jaxpr, [*consts, *carry, *slices], 0, {})[: len(carry)]
        joined = [_join(pair) for pair in zip(carry, after)]
        if joined == carry:
            return carry
        carry = joined


def _count_products(eqn, operands, times, counted) -> None:
    out = eqn.outvars[0].aval
    if eqn.primitive.name == "mul":
        leaves = _join([kind for kind in operands if kind is not ACTIVATION])
        if len(operands) != 2 or ACTIVATION not in operands:
            return
        if module := leaves.owner("kernel"):
            cost = counted.setdefault(module, Cost())
            cost.multiply_adds += times * out.size
            cost.activation_bytes = max(cost.activation_bytes, times * value_bytes(out))  # terms of a sum: one output
        elif module := leaves.owner("scale"):
            counted.setdefault(module, Cost()).norm_values += times * out.size
        return
    if all(kind is ACTIVATION for kind in operands[:2]):
        module = OTHER
    elif not (module := _join([kind for kind in operands[:2] if kind is not ACTIVATION]).owner("kernel")):
        return
    cost = counted.setdefault(module, Cost())
    cost.multiply_adds += times * _products(eqn)
    cost.activation_bytes += times * value_bytes(out)


def _products(eqn) -> int:
    (left, right), out = (var.aval for var in eqn.invars[:2]), eqn.outvars[0].aval
    if eqn.primitive.name == "dot_general":
        return out.size * math.prod(left.shape[axis] for axis in eqn.params["dimension_numbers"][0][0])
    features = right.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
    # a transposed convolution does not multiply the zeros inserted between pixels
    return out.size * (right.size // features) // math.prod(eqn.params["lhs_dilation"])


def value_bytes(aval: Any) -> int:
    """Returns the bytes of a value; aval: its shape and dtype, as a jaxpr has them."""
    # typed PRNG keys have an extended dtype, whose itemsize numpy cannot give; they are a few words
    return aval.size * (
        np.dtype(aval.dtype).itemsize if not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key) else 8
    )
