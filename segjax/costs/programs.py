"""Memory of a network of `segjax.models` in training: what is kept for the backward pass, and the peak of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax import models
from segjax.costs.modules import saved_for_backward
from segjax.costs.networks import abstract_variables, forward, training
from segjax.costs.peak import Peak, peak_memory
from segjax.costs.planned import temporary_bytes
from segjax.ops import made_for
from segjax.training.state import TrainState
from segjax.training.step import make_train_step
from segjax.training.terms import TermOptions, loss_terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A network and the batch that it sees; plain data, so that another process can build the same program.

    name, options: of the network, see `models.create`.
    size: (h, w) of the images, of which there are `batch`.
    """

    name: str
    size: tuple[int, int]
    num_classes: int = 19
    batch: int = 1
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


class Program(NamedTuple):
    """A whole program and the shapes of its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def kept_bytes(workload: Workload, *, platform: str = "") -> int:
    """Returns the bytes that the backward pass keeps of the network's forward pass, see `saved_for_backward`.

    platform: that it is traced for, see `ops.made_for`; "" for this process's.

    Raises UserError for an unknown network or option, and for images that are too small.
    """
    model, variables, images = traced_network(workload)
    statistics = {key: value for key, value in variables.items() if key != "params"}
    with made_for(platform or jax.default_backend()):
        return sum(saved_for_backward(training(model), variables["params"], statistics, images).values())


def training_peak(workload: Workload, *, platform: str = "") -> Peak:
    """Returns the peak of loss and gradient, without compiling or running them.

    platform: as for `kept_bytes`.

    Raises UserError for an unknown network or option, and for images that are too small.
    """
    step = training_step(workload)
    with made_for(platform or jax.default_backend()):
        return peak_memory(step.function, *step.arguments)


def compiled_bytes(workload: Workload, program: str, device: jax.Device | None = None) -> int:
    """Returns the bytes of the temporaries that XLA plans for a program.

    program: key of PROGRAMS.
    device: see `temporary_bytes`.

    Raises UserError for an unknown network or option, and if the backend reports no memory.
    """
    found = PROGRAMS[program](workload)
    return temporary_bytes(found.function, *found.arguments, device=device)


def inference(workload: Workload) -> Program:
    """Returns the program (variables, images) -> logits."""
    model, variables, images = traced_network(workload)
    return Program(forward(model), (variables, images))


def training_step(workload: Workload) -> Program:
    """Returns the program of a training step without an optimizer: its results have gradients for parameters.

    The loss is the cross entropy of all heads, with the weights and the losses that the network publishes.
    """
    model, variables, images = traced_network(workload)
    step = make_train_step(
        model.apply,
        loss_terms(
            {"loss": TermOptions(name="cross_entropy")}, model.loss_weights, loss_names=getattr(model, "loss_names", {})
        ),
        lambda state, gradients, batch_stats: (state.replace(params=gradients, batch_stats=batch_stats), {}),
        lambda batch, frozen: (batch["image"], {"labels": batch["label"]}),
        seed=0,
        recompute_loss="loss" in model.recomputed,
    )
    shape = jax.ShapeDtypeStruct
    state = TrainState(
        shape((), jnp.int32), variables["params"], variables.get("batch_stats", {}), opt_state=(), ema={}
    )
    b, *size, _ = images.shape
    batch = {"image": images, "label": shape((b, *size), jnp.uint8), "epoch": shape((b,), jnp.int32)}
    return Program(step, (state, batch, {}))


PROGRAMS = {"inference": inference, "training_step": training_step}


def traced_network(workload: Workload) -> tuple[Any, Any, jax.ShapeDtypeStruct]:
    """Returns (network, shapes of its variables, shape of its images)."""
    model = models.create(workload.name, workload.num_classes, **workload.options)
    images = jax.ShapeDtypeStruct((workload.batch, *workload.size, 3), jnp.float32)
    return model, abstract_variables(model, images), images
