"""Errors of a network's logits in float32, TF32 and bfloat16, against float64 on the CPU of the host."""

from __future__ import annotations

import contextlib

import jax
import numpy as np

from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures
from benchmarks.accelerator.parity import row_of
from segjax.ops import made_for
from tests.parity_rows import build
from tests.parity_tools import FIXTURES, formula_input, formula_variables

# name -> (type of the network, precision of float32 products)
WAYS = {"float32": ("float32", "highest"), "TF32": ("float32", "tensorfloat32"), "bfloat16": ("bfloat16", None)}


def measure(part: str, context: Context) -> Figures:
    """part: folder of a row of tests/parity_rows.py, whose weights by formula are used.

    Figures of each way: largest error as a share of max|logits|, error of the root mean square as a share of theirs,
    and percent of the pixels whose class changes.
    """
    row, small = row_of(part), str(np.load(FIXTURES / f"parity_{part}.npz")["small"])
    shape = (1, 3, *context.sizes.reference)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]), made_for("cpu"):
        variables = formula_variables(build(row, dtype="float64"), small=small, dtype=np.float64)
        exact = logits(build(row, dtype="float64"), variables, formula_input(shape, np.float64))
    variables = jax.device_put(jax.tree.map(np.float32, variables), jax.devices()[0])
    figures: Figures = {"network": row.name}
    for name, (dtype, precision) in WAYS.items():
        with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
            found = logits(build(row, dtype=dtype), variables, formula_input(shape))
        error = found - exact
        figures[f"{name}, largest"] = float(np.abs(error).max() / np.abs(exact).max())
        figures[f"{name}, rms"] = float(np.sqrt((error**2).mean() / (exact**2).mean()))
        figures[f"{name}, classes, %"] = float(100 * (found.argmax(-1) != exact.argmax(-1)).mean())
    return figures


def logits(module, variables, images) -> np.ndarray:
    """Returns the logits (1, h, w, k) in float64."""
    run = jax.jit(lambda v, x: module.apply(v, x, train=False).logits)
    return np.asarray(run(variables, images), np.float64)
