"""The warps of `segjax.ops`, each beside a program that only moves as many bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import clock
from segjax.ops import bilinear_warp, kernel_warp


class Case(NamedTuple):
    """A warp, or its gradient; size: bytes that it must at least read and write."""

    function: Callable[..., Any]
    inputs: tuple[jax.Array, ...]
    size: int


def cases(shape: tuple[int, int, int, int]) -> dict[str, Case]:
    """Returns the warps of random images of a shape (b, h, w, c), by a flow of 4 pixels, and their gradients."""
    rng = np.random.default_rng(0)
    image = jax.device_put(rng.uniform(0, 255, shape).astype(np.float32))
    flow = jax.device_put(rng.normal(0, 4, (*shape[:3], 2)).astype(np.float32))
    label = image[..., :1].astype(jnp.uint8)
    forward = 2 * image.nbytes + flow.nbytes

    def loss(i, f, g):
        return (bilinear_warp(i, f) * g).sum()

    return {
        "bilinear": Case(bilinear_warp, (image, flow), forward),
        "gradient of the flow": Case(jax.grad(loss, 1), (image, flow, image), forward + flow.nbytes),
        "gradient of image and flow": Case(
            jax.grad(loss, (0, 1)), (image, flow, image), forward + image.nbytes + flow.nbytes
        ),
        "bicubic": Case(kernel_warp, (image, flow), forward),
        "Lanczos": Case(lambda i, f: kernel_warp(i, f, kernel="lanczos"), (image, flow), forward),
        "nearest, labels": Case(
            lambda i, f: bilinear_warp(i, f, method="nearest"), (label, flow), 2 * label.nbytes + flow.nbytes
        ),
    }


def beside_a_copy(case: Case) -> dict[str, clock.Timed]:
    """Returns timed runs of the "warp", and of a "copy" that reads and writes its bytes once."""
    words = jax.device_put(np.ones(case.size // 8, np.float32))
    warp, copy = jax.jit(case.function), jax.jit(lambda x: x + 1)
    return {"warp": clock.stopwatch(lambda: warp(*case.inputs)), "copy": clock.stopwatch(lambda: copy(words))}
