"""The command `segjax summary`: costs of one network by module, and its memory in training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jax

from segjax import visualize
from segjax.costs import programs, tpu
from segjax.costs.modules import cost_table
from segjax.costs.networks import model_costs
from segjax.costs.peak import Peak

TITLES = {"inference": "inference", "training_step": "loss and gradient"}


def print_summary(workload: programs.Workload, *, depth: int | None = None, compile: bool = False) -> None:
    """Prints parameters, multiply-adds and memory of a network; nothing is run.

    workload: the network and its batch.
    depth: see `module_costs`.
    compile: whether to compile its programs for the memory that XLA plans, for this backend and, if its compiler is
        installed, for a TPU.

    Raises UserError for an unknown network or option, an image that is too small, or if a backend reports no memory.
    """
    name, size, options = workload.name, workload.size, workload.options
    classes, batch = workload.num_classes, workload.batch
    costs = model_costs(name, size, num_classes=classes, batch=batch, depth=depth, **options)
    table = cost_table(costs, title=f"{name}, {classes} classes, {batch} x {size[0]}x{size[1]}")
    visualize.print_table(table)
    _, variables, _ = programs.traced_network(workload)
    params, statistics = variables["params"], {key: value for key, value in variables.items() if key != "params"}
    print(f"parameters: {_mebibytes(params)} in float32, statistics {_mebibytes(statistics)}")
    kept = sum(cost.saved_bytes for cost in costs.values())
    print(f"training keeps {_mib(kept)} of activations for the backward pass")
    print(peak_line(programs.training_peak(workload)))
    if compile:
        for line in compiled_lines(workload):
            print(line, flush=True)  # a program may take minutes
    print("multiply-adds: convolutions and matrix products with kernels; activations: what these write")


def peak_line(peak: Peak) -> str:
    """Returns the sentence about the peak of a training step."""
    return (
        f"{TITLES['training_step']} need {_mib(peak.temporaries)} at their peak, in {_place(peak.scope)}, beside "
        f"{_mib(peak.arguments)} of arguments and {_mib(peak.results)} of results"
    )


def _place(scope: str) -> str:
    """Returns the place in words; scope: transpose(jvp(Net))/layer1.0/conv1, transpose(jvp()) for the loss."""
    half = "backward" if "transpose(" in scope else "forward"
    names = [re.sub(r".*\(|\)", "", name) for name in scope.split("/")]
    modules = [name for name in names[1:] if name]
    return f"the {half} pass of {'/'.join(modules) or names[0] or 'the loss'}"


def compiled_lines(workload: programs.Workload) -> Iterator[str]:
    """Yields a sentence about the memory of each compiled program on each backend.

    Raises UserError if a backend reports no memory or refuses a program.
    """
    here = jax.default_backend()
    for program in programs.PROGRAMS:
        what = TITLES[program]
        yield _compiled(what, programs.compiled_bytes(workload, program), here)
        if here != "tpu" and not tpu.missing():
            yield _compiled(what, tpu.compiled_bytes(workload, program), f"a TPU {tpu.TOPOLOGY}")
    if here != "tpu" and tpu.missing():
        yield tpu.missing()


def _compiled(what: str, size: int, where: str) -> str:
    return f"{what}, compiled: {_mib(size)} on {where} beside arguments and results"


def _mebibytes(tree: Any) -> str:
    return f"{sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 2**20:,.2f} MiB"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.{0 if size >= 100 * 2**20 else 1}f} MiB"
