"""Costs of labelling a video, of a frame between keyframes, of a keyframe and on average; and of training for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax import models, visualize
from segjax.costs.modules import cost_table, module_costs
from segjax.costs.networks import abstract_variables, inference_costs
from segjax.costs.products import Cost
from segjax.models.video_segmenter import scaled_size

INTERVALS = range(1, 6)  # of the paper's tables


def frame_costs(
    name: str, size: tuple[int, int], *, num_classes: int = 19, depth: int | None = 2, **options: Any
) -> dict[str, Cost]:
    """Returns the cost of each module of a propagation network for one frame between keyframes.

    name, options: network of `models.create_propagation` and its options.
    size: (h, w) of the frame.
    depth: see `module_costs`.

    Raises UserError for an unknown network or option.
    """
    module = models.create_propagation(name, num_classes, **options)
    state = models.FAMILIES["propagation"].inputs(module)[0]
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *module.grid(size), x.shape[-1]), x.dtype), state)
    frame = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), state, frame, frame)
    variables = {"params": {}, **variables}  # the baseline "copy" has none
    return module_costs(lambda v, inputs: module.apply(v, *inputs), variables, (state, frame, frame), depth=depth)


def keyframe_multiply_adds(
    name: str, size: tuple[int, int], *, scale: float = 1.0, num_classes: int = 19, **options: Any
) -> int:
    """Returns the multiply-adds of an image network for a keyframe of (h, w) that is resized by `scale`.

    name, options: of the network.

    Raises UserError for an unknown network or option.
    """
    images = jax.ShapeDtypeStruct((1, *scaled_size(size, scale), 3), jnp.float32)
    variables = abstract_variables(models.create(name, num_classes, **options), images)
    costs = inference_costs(name, num_classes, options, variables, images, 1)
    return sum(cost.multiply_adds for cost in costs.values())


def frame_multiply_adds(spec: Mapping[str, Any], size: tuple[int, int]) -> int:
    """Returns the multiply-adds of a propagation network for a frame of (h, w); spec: of a checkpoint."""
    costs = frame_costs(spec["name"], size, num_classes=spec["num_classes"], **counted_options(spec))
    return sum(cost.multiply_adds for cost in costs.values())


def snippet_flops(
    spec: Mapping[str, Any], size: tuple[int, int], *, scales: Sequence[float], fixed: int, trained: int
) -> float:
    """Returns the FLOPs of one snippet in the training of a propagation network, 2 per multiply-add.

    The keyframe network runs forward only; a frame with a gradient counts three times.

    spec: of both networks, see `models.from_spec`.
    size: (h, w) of the frames.
    scales: of the frames that the keyframe network labels.
    fixed, trained: number of frames that the propagation network labels without and with a gradient.
    """
    keyframe = spec["keyframe"]["spec"]
    options = {**counted_options(keyframe), "num_classes": keyframe["num_classes"]}
    labelled = sum(keyframe_multiply_adds(keyframe["name"], size, scale=scale, **options) for scale in scales)
    return 2.0 * (labelled + (fixed + 3 * trained) * frame_multiply_adds(spec, size))


def triple_flops(spec: Mapping[str, Any], size: tuple[int, int]) -> float:
    """Returns the FLOPs of one triple in the training of a video network, 2 per multiply-add, with the backward pass.

    spec: of the network, see `models.from_spec`.
    size: (h, w) of the frames.
    """
    module = models.create_video(spec["name"], **counted_options(spec))
    images = jax.ShapeDtypeStruct((1, module.frames, *size, 3), jnp.float32)
    flows = jax.ShapeDtypeStruct((1, module.frames - 1, *size, 2), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images, flows)
    costs = module_costs(lambda v, inputs: module.apply(v, *inputs), variables, (images, flows), depth=1)
    return 3 * 2.0 * sum(cost.multiply_adds for cost in costs.values())


def counted_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a network that may change its number of multiply-adds; spec: of a checkpoint."""
    return {key: value for key, value in spec["options"].items() if key not in ("dtype", "remat")}


def print_video_summary(
    name: str,
    size: tuple[int, int],
    *,
    num_classes: int = 19,
    depth: int | None = None,
    keyframe: str = "",
    scale: float = 1.0,
    **options: Any,
) -> None:
    """Prints the cost of a frame by module and, with a keyframe network, of keyframes and on average by interval.

    Arguments and errors as in `frame_costs` and `keyframe_multiply_adds`.
    """
    costs = frame_costs(name, size, num_classes=num_classes, depth=depth or 2, **options)
    table = cost_table(
        costs, title=f"{name}, {num_classes} classes, one frame of {size[0]}x{size[1]} between keyframes"
    )
    visualize.print_table(table)
    between = sum(cost.multiply_adds for cost in costs.values())
    parameters = sum(cost.parameters for cost in costs.values())
    print(f"parameters: {parameters:,}, {4 * parameters:,} bytes in float32")
    if keyframe:
        key = keyframe_multiply_adds(keyframe, size, scale=scale, num_classes=num_classes)
        shown = "x".join(map(str, scaled_size(size, scale)))
        print(f"a keyframe by {keyframe} at {shown}: {key / 1e9:.2f} G multiply-adds")
        means = ", ".join(f"{n}: {(key + (n - 1) * between) / n / 1e9:.2f} G" for n in INTERVALS)
        print(f"multiply-adds of a frame on average, by interval of the keyframes: {means}")
    print("multiply-adds: convolutions and matrix products with kernels; activations: what these write")
