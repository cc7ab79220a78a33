"""What the device reaches: a large matrix product of each type, and a copy within its memory; beside the vendor's."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp

from benchmarks import clock
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, rates, walls
from segjax.costs.chips import chip_of

# name -> (type of the matrices, precision of float32 products)
PRODUCTS = {"bfloat16": ("bfloat16", None), "TF32": ("float32", "tensorfloat32"), "float32": ("float32", "highest")}


def measure(part: str, context: Context) -> Figures:
    """part: "matmul", operations per second; "copy", bytes per second, read and written."""
    chip = chip_of(jax.devices()[0].device_kind)
    if part == "copy":
        words = jnp.ones(context.sizes.copy // 4, jnp.float32)
        copy = jax.jit(lambda x: x + 1)
        times = clock.take_turns({"": clock.stopwatch(lambda: copy(words))}, context.sizes.repeats)[""]
        figures = {"copy, GB/s": rates(walls(times), 2 * words.nbytes / 1e9)}
        return figures | ({"vendor, GB/s": chip.bandwidth / 1e9} if chip else {})
    n, runs = context.sizes.matmul, {}
    for name, (dtype, precision) in PRODUCTS.items():
        x = jax.random.normal(jax.random.key(0), (n, n), dtype)  # zeros would be faster: they draw less power
        with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
            product = jax.jit(lambda a, b: a @ b).lower(x, x).compile()
        runs[name] = clock.stopwatch(lambda product=product, x=x: product(x, x))
    times = clock.take_turns(runs, context.sizes.repeats, warm=2)
    figures = {f"{name}, Tflop/s": rates(walls(taken), 2 * n**3 / 1e12) for name, taken in times.items()}
    return figures | ({"vendor bfloat16, Tflop/s": chip.flops / 1e12} if chip else {})


def peak_flops(dtype: str) -> tuple[float, str]:
    """Returns the operations per second that MFU divides by, and whose figure that is.

    Chips of segjax/costs/chips.py have the vendor's for bfloat16; everything else is divided by a large product here.
    """
    from benchmarks.models import measured_peak

    chip = chip_of(jax.devices()[0].device_kind)
    if chip and dtype == "bfloat16":
        return chip.flops, "vendor"
    return measured_peak(dtype), "large product"
