"""Costs of a network by module: parameters, multiply-adds and activations, read from its jaxpr without running it.

Multiply-adds are products of an activation with a value made of a `kernel` leaf. The count does not depend on the
backend's lowering of a convolution: those of `ops` are traced as textbook convolutions. As is usual, products with
constants (resizing) and BatchNorm, which folds into the convolution, are not counted. The values that enter a BatchNorm
are counted apart, for papers that add one operation for each.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core
from rich.table import Table

from segjax.ops import textbook_convolutions
from segjax.typing import Array, Variables

COUNTED = ("kernel", "scale")  # leaves whose products with activations are counted; scales are those of batch norms
PRODUCTS = ("conv_general_dilated", "dot_general", "mul")
OTHER = "(products of activations)"
# names of the published trunks; MobileNetV2 and EfficientNet-Lite have one list of blocks
STAGE = re.compile(r".*?\b(layer|stage|transition|denseblock|mod|bottleneck)\d+|(backbone\.)?(features|_blocks)\.\d+")


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


def module_costs(
    apply_fn: Callable[[Variables, Array], Any], variables: Variables, images: Array, *, depth: int | None = 2
) -> dict[str, Cost]:
    """Returns the cost of each module, in the order the modules run.

    A loop of unknown length counts once.

    apply_fn: (variables, images) -> anything, in inference mode.
    variables, images: arrays or shapes (jax.eval_shape).
    depth: number of leading parts of a module's dotted name to group by; None groups by stages of trunk and decoder.
    """
    with textbook_convolutions():
        closed = jax.make_jaxpr(apply_fn)(variables, images)
    leaves = [path for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]
    inputs = [_Leaves({(path[-1].key, _module(path))} if path[-1].key in COUNTED else ()) for path in leaves]
    inputs += [ACTIVATION] * (len(closed.jaxpr.invars) - len(inputs))
    counted: dict[str, Cost] = {}
    _walk_jaxpr(closed.jaxpr, inputs, 1, counted)

    costs: dict[str, Cost] = {_group(name, depth): Cost() for name in counted}
    for name, cost in counted.items():
        costs[_group(name, depth)] += cost
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables["params"])[0]:
        costs.setdefault(_group(_module((None, *path)), depth), Cost()).parameters += math.prod(leaf.shape)
    return costs


def saved_for_backward(
    apply_fn: Callable[..., Any], params: Any, *others: Any, depth: int | None = 2
) -> dict[str, int]:
    """Returns the bytes of each module that are kept from the forward for the backward pass; includes effects of remat.

    A value computed between modules counts for the module it comes from. Not counted: parameters, inputs, and values
    that depend on parameters and constants only, which XLA computes again.

    apply_fn: (params, *others) -> arrays, in training mode.
    params, others: arrays or shapes.
    depth: as in `module_costs`.
    """

    def residuals(params, *others):
        return jax.tree.leaves(jax.vjp(lambda params: apply_fn(params, *others), params)[1])

    closed = jax.make_jaxpr(residuals)(params, *others)
    fixed = len(jax.tree.leaves(params))
    moving = {id(var) for var in closed.jaxpr.invars[fixed:]}  # variables that depend on the images
    owner: dict[int, str] = {}
    for eqn in closed.jaxpr.eqns:
        sources = [var for var in eqn.invars if id(var) in moving]
        if sources:
            moving |= {id(var) for var in eqn.outvars}
        before = [owner[id(var)] for var in sources if id(var) in owner]
        name = _running_module(str(eqn.source_info.name_stack), params)
        if len(name.split(".")) < (depth or 2) or not name:
            name = next((other for other in before if other.startswith(name)), name)
        owner |= {id(var): name for var in eqn.outvars}
    kept = {id(var): var.aval for var in closed.jaxpr.outvars if not isinstance(var, core.Literal)}
    saved: dict[str, int] = {}
    for key, aval in kept.items():
        if key in moving and key in owner:
            group = _group(owner[key], depth)
            saved[group] = saved.get(group, 0) + value_bytes(aval)
    return saved


def _running_module(name_stack: str, params: Any) -> str:
    """Returns the dotted name of the running module with parameters; name_stack: jvp(Net)/Trunk_0/layer1.0/conv1."""
    names, node = [], params
    for name in name_stack.split("/"):
        name = name[name.rfind("(") + 1 :].rstrip(")")  # jvp(Net), transpose(jvp(Net))
        if isinstance(node, Mapping) and name not in node:
            name = name.rpartition(".")[0]  # backbone.stages: a method of the module other than __call__
        if isinstance(node, Mapping) and isinstance(node.get(name), Mapping):
            names, node = [*names, name], node[name]
    return ".".join(names)


def cost_table(costs: Mapping[str, Cost], *, title: str = "") -> Table:
    """Returns a table of `module_costs` with the total in its last row."""
    total = Cost()
    for cost in costs.values():
        total += cost
    table = Table(title=title or None, title_justify="left", show_footer=True)
    table.add_column("module", footer="total")
    headings = ("parameters", "multiply-adds", "share", "activations", "kept to train")
    cells = _cells(total, total)
    shown = 5 if total.saved_bytes else 4
    for heading, foot in zip(headings[:shown], cells):
        table.add_column(heading, footer=foot, justify="right")
    for name, cost in costs.items():
        table.add_row(name, *_cells(cost, total)[:shown])
    return table


def _cells(cost: Cost, total: Cost) -> tuple[str, ...]:
    share = f"{100 * cost.multiply_adds / total.multiply_adds:.1f} %" if total.multiply_adds else ""
    memory = (_mib(cost.activation_bytes), _mib(cost.saved_bytes))
    return f"{cost.parameters:,}", _si(cost.multiply_adds), share, *memory


# Walk over the jaxpr: each variable is either an activation, or made of parameters and constants only. The latter are
# followed with the kernels and scales that they contain.


class _Leaves(frozenset):
    """Kernels and scales in a value without activations, as (leaf, module); empty for constants and other leaves."""

    def owner(self, leaf: str) -> str:
        """Returns the module of the first kernel or scale, "" without one."""
        return min((module for kind, module in self if kind == leaf), default="")


ACTIVATION = None


def _join(kinds):
    return ACTIVATION if any(kind is ACTIVATION for kind in kinds) else _Leaves(frozenset().union(*kinds))


def _walk_jaxpr(jaxpr, inputs, times: int, counted: dict[str, Cost]):
    """Adds the products of a jaxpr that runs `times` times to `counted`; returns the kinds of its outputs."""
    kinds = dict(zip(jaxpr.invars, inputs))

    def kind_of(var):
        return _Leaves() if isinstance(var, core.Literal) else kinds.get(var, _Leaves())

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
        first, last = eqn.params["num_consts"], eqn.params["num_consts"] + eqn.params["num_carry"]
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


def _module(path) -> str:
    """Returns the dotted name of the module of a leaf; path: (collection, module, ..., leaf)."""
    return ".".join(str(entry.key) for entry in path[1:-1])


def _group(name: str, depth: int | None) -> str:
    """Returns the first `depth` parts of a dotted name; None: those up to its stage, else two before any number."""
    if depth is None:
        if stage := STAGE.match(name):
            return stage[0]
        parts = name.split(".")
        named = next((i for i, part in enumerate(parts) if part.isdecimal()), len(parts))
        depth = min(2, named)
    return ".".join(name.split(".")[:depth]) or "(top)"


def value_bytes(aval: Any) -> int:
    """Returns the bytes of a value; aval: its shape and dtype, as a jaxpr has them."""
    # typed PRNG keys have an extended dtype, whose itemsize numpy cannot give; they are a few words
    return aval.size * (
        np.dtype(aval.dtype).itemsize if not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key) else 8
    )


def _si(number: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:.0f}"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
