"""Costs of a network by module: parameters, multiply-adds and activations, read from its jaxpr without running it.

The count does not depend on the backend's lowering of a convolution: those of `ops` are traced as textbook
convolutions. See `products` for what is counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend import core
from rich.table import Table

from segjax.costs.products import ACTIVATION, KINDS, Cost, Leaves, counted_products, value_bytes
from segjax.ops import textbook_convolutions
from segjax.typing import Array, Variables

# names of the published trunks; MobileNetV2 and EfficientNet-Lite have one list of blocks
STAGE = re.compile(r".*?\b(layer|stage|transition|denseblock|mod|bottleneck)\d+|(backbone\.)?(features|_blocks)\.\d+")


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
    inputs = [Leaves({(KINDS[path[-1].key], _module(path))} if path[-1].key in KINDS else ()) for path in leaves]
    inputs += [ACTIVATION] * (len(closed.jaxpr.invars) - len(inputs))
    counted = counted_products(closed.jaxpr, inputs)
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


def _si(number: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:.0f}"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
