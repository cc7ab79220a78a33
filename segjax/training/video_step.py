"""One training step of a video network on triples of frames. Pure; the caller jits it over a mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segjax.losses import video as losses
from segjax.training.state import TrainState
from segjax.training.update import Update
from segjax.typing import Array, Batch

RELEASED = {"color": 0.7, "gradient": 0.2, "smooth": 0.1}  # weights in the code released with VPLR (SDCNet2D)
TERMS = (*RELEASED, "perceptual", "style")

Features = Callable[[Any, Array], Mapping[str, Array]]  # (variables, frames in 0..255) -> maps by name


def video_loss(
    frame: Array,
    flow: Array,
    target: Array,
    weight: Array,
    *,
    weights: Mapping[str, float],
    features: Callable[[Array], Mapping[str, Array]] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Returns the weighted sum of the terms, () float32, and each term by name.

    frame: reconstructed, (b, h, w, 3) in 0..255.
    flow: (b, h, w, 2) in pixels.
    target: the real frame, (b, h, w, 3) in 0..255.
    weight: (b,), 0 for examples that do not count.
    weights: name -> weight of a term, some of TERMS.
    features: frames -> maps by name, for "perceptual" and "style".
    """
    terms = {
        "color": losses.color(frame, target, weight).mean(),
        "gradient": sum(part.mean() for part in losses.gradient_difference(frame, target, weight)),
        "smooth": sum(part.mean() for part in losses.flow_smoothness(flow, weight)),
    }
    if weights.get("perceptual") or weights.get("style"):
        ours, theirs = features(frame), jax.lax.stop_gradient(features(target))
        for name, function in (("perceptual", losses.perceptual), ("style", losses.style)):
            if weights.get(name):
                terms[name] = function(ours, theirs, weight)
    return sum(weights[name] * value for name, value in terms.items() if weights.get(name)), terms


def make_video_step(
    apply: Callable[..., Any],
    update: Update,
    *,
    frames: int,
    weights: Mapping[str, float],
    features: Features | None = None,
) -> Callable[[TrainState, Batch, Any], tuple[TrainState, Mapping[str, Array]]]:
    """Builds step(state, batch, frozen) -> (state, metrics): the network learns to reconstruct the third frame.

    apply: a video network's.
    update: see `make_update`.
    frames: how many of a triple's frames are the network's input.
    weights: name -> weight of a loss term, some of TERMS.
    features: maps of a fixed network, whose variables are `frozen`.

    batch: see `data.TripletCrops`.
    metrics: loss, every term by name, lr, grad_norm, param_norm, and `used`, the share of triples without a scene cut;
        () float32 each.
    """

    def loss_fn(params, batch, frozen):
        images = batch["images"].astype(jnp.float32)
        output = apply({"params": params}, images[:, :frames], batch["flows"], train=True)
        maps = None if features is None else lambda x: features(frozen, x)
        return video_loss(output.frame, output.flow, images[:, 2], batch["weight"], weights=weights, features=maps)

    def step(state: TrainState, batch: Batch, frozen: Any) -> tuple[TrainState, Mapping[str, Array]]:
        (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, frozen)
        state, metrics = update(state, grads, state.batch_stats)
        return state, {"loss": loss, **terms, "used": batch["weight"].mean(), **metrics}

    return step
