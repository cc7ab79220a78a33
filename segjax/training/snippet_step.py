"""One training step of a propagation network: it carries the keyframe's logits to the last, labelled frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from segjax.errors import UserError
from segjax.models.video_segmenter import VideoSegmenter
from segjax.ops import resize
from segjax.ops.platform import platform
from segjax.training.state import TrainState
from segjax.training.step import Step
from segjax.training.terms import LossTerm, total_loss
from segjax.training.update import Update
from segjax.typing import Array, Batch, SegOutput, Targets, Variables

LABELS = ("truth", "teacher")


def make_snippet_step(
    module: VideoSegmenter,
    terms: tuple[LossTerm, ...],
    update: Update,
    prepare: Callable[[Batch], tuple[Array, Targets]],
    *,
    gradient_steps: int = 2,
    labels: str = "truth",
    teacher: bool = False,
    train_scale: float = 1.0,
    ignore_label: int = 255,
) -> Step:
    """Builds step(state, batch, frozen) -> (state, metrics).

    The state has the variables of the propagation network; those of the keyframe network are `frozen`.

    module: both networks.
    terms: of the loss, on "logits": those of the last frame, enlarged to its size.
    update: see `make_update`.
    prepare: batch -> (frames (b, t, h, w, 3) float32, targets of the last frame).
    gradient_steps: number of last frames that get a gradient; in earlier ones, batch norms are in evaluation, but for
        those of the flow network (released code). 0 = all frames, all in training.
    labels: "truth", or "teacher": the classes of the keyframe network on the last frame, so that any video will do.
    teacher: whether a term compares with the keyframe network's logits of the last frame, targets["teacher"].
    train_scale: factor by which keyframes are resized in training, 1 as released.

    metrics: loss, every term by name, lr, grad_norm, and param_norm; () float32 each.
    Raises UserError for an impossible option.
    """
    if labels not in LABELS:
        raise UserError(f"labels={labels!r} must be {' or '.join(LABELS)}.")
    if gradient_steps < 0:
        raise UserError(f"gradient_steps={gradient_steps} must be 0 (all frames) or more.")

    def loss_fn(params, batch_stats, start, small, targets, epoch):
        variables = {"params": params, "batch_stats": batch_stats}
        state, batch_stats = carry(module.propagation, variables, start, small, gradient_steps=gradient_steps)
        logits = resize(module.propagation.logits(state), targets["labels"].shape[1:], align_corners=True)
        loss, means = total_loss(terms, SegOutput(logits), targets, epoch=epoch)
        return loss, (means, batch_stats)

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def step(state: TrainState, batch: Batch, frozen: Variables) -> tuple[TrainState, Mapping[str, Array]]:
        frames, targets = prepare(batch)
        of = partial(module.apply, below("keyframe", frozen))
        start = of(frames[:, 0], train_scale, method="start")
        if teacher or labels == "teacher":
            targets = with_teacher(targets, of(frames[:, -1], 1.0, method="of_keyframe").logits, labels, ignore_label)
        small = resize(frames, module.grid(frames.shape[2:4]), align_corners=True)  # each frame is read twice
        found = grad_fn(state.params, state.batch_stats, start, small, targets, batch["epoch"][0])
        (loss, (means, batch_stats)), grads = found
        state, metrics = update(state, grads, batch_stats)
        return state, {"loss": loss, **means, **metrics}

    return step


def carry(
    propagation: Any, variables: Variables, start: Any, frames: Array, *, gradient_steps: int = 0
) -> tuple[Any, Any]:
    """Carries a state over a snippet in training; returns (state of the last frame, batch statistics).

    propagation: the network.
    variables: its params and batch_stats.
    start: state of the first frame.
    frames: (b, t, h', w', 3), normalised, at the size of the grid.
    gradient_steps: see `make_snippet_step`.
    """
    count = frames.shape[1] - 1
    early = fixed_frames(frames.shape[1], gradient_steps)
    in_order = jnp.moveaxis(frames, 1, 0)  # t b h' w' 3
    pairs = in_order[1:], in_order[:-1]

    def one(carried, pair, params, train):
        state, batch_stats = carried
        state, new = propagation.apply(
            {"params": params, "batch_stats": batch_stats}, state, *pair, train=train, train_flow=True,
            mutable=["batch_stats"],
        )  # fmt: skip
        return (state, new.get("batch_stats", {})), None

    carried = (start, variables["batch_stats"])
    if early:
        fixed = jax.lax.stop_gradient(variables["params"])
        first = partial(one, params=fixed, train=False)
        carried, _ = jax.lax.scan(first, carried, tuple(x[:early] for x in pairs))
    last = partial(one, params=variables["params"], train=True)
    if "step" in propagation.recomputed:
        last = jax.checkpoint(last)
    if platform() != "cpu":
        return jax.lax.scan(last, carried, tuple(x[early:] for x in pairs))[0]
    # as a loop, the same takes 15 times as long on XLA's CPU backend (jax 0.10, 8 snippets of 272x360)
    for number in range(early, count):
        carried, _ = last(carried, tuple(x[number] for x in pairs))
    return carried


def fixed_frames(frames: int, gradient_steps: int) -> int:
    """Returns the number of frames after the keyframe that get no gradient; arguments: see `make_snippet_step`."""
    return max(frames - 1 - gradient_steps, 0) if gradient_steps else 0


def below(name: str, variables: Variables) -> dict[str, Any]:
    """Returns the variables of a submodule as those of the module that contains it under `name`."""
    return {collection: {name: tree} for collection, tree in variables.items()}


def part_of(name: str, variables: Variables) -> dict[str, Any]:
    """Returns the variables of the submodule `name`, the inverse of `below`."""
    return {collection: tree[name] for collection, tree in variables.items() if name in tree}


def with_teacher(targets: Targets, logits: Array, labels: str, ignore_label: int) -> Targets:
    """Returns the targets with the teacher's logits (b, h, w, k), and its classes as labels if labels="teacher".

    Pixels beyond the frame, which `inside` marks, have no label.
    """
    logits = jax.lax.stop_gradient(logits)
    targets = {**targets, "teacher": logits}
    if labels == "teacher":
        ids = jnp.argmax(logits, axis=-1).astype(targets["labels"].dtype)
        targets["labels"] = jnp.where(targets["inside"], ids, ignore_label)
    return targets
