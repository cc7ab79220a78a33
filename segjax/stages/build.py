"""From settings to objects: the network, its first weights, the data, the loss terms. Shared by the stages."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segjax import augment, losses, models, weights
from segjax.data import Source, open_source
from segjax.errors import UserError
from segjax.stages.settings import check_keys, choose, options_of, plain
from segjax.training.checkpoints import load_for_inference
from segjax.training.step import LossTerm
from segjax.typing import Variables

log = logging.getLogger("segjax")


def open_split(dataset: Mapping[str, Any], split: str) -> Source:
    """The labelled records of one split ("train", "validation" or "test", or a split's own name) of config.dataset."""
    check_keys(
        dataset, {"name", "options", "train", "validation", "test", "data_dir"}, where="dataset", required=["name"]
    )
    return open_source(
        dataset["name"],
        dataset.get(split, split),
        data_dir=dataset.get("data_dir") or None,
        builder_options={key: value for key, value in plain(dataset.get("options", {})).items() if value != ""},
    )


def compute_dtype(name: str) -> str:
    """ "auto" is bfloat16 on accelerators and float32 on CPU."""
    if name == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return choose({"float32": "float32", "bfloat16": "bfloat16"}, name, where="train.dtype")


def model_spec(settings: Mapping[str, Any], *, num_classes: int, dtype: str, remat: bool) -> dict[str, Any]:
    """What a checkpoint must know to build the network again: name, num_classes, options."""
    check_keys(settings, {"name", "options"}, where="train.model", required=["name"])
    options = {**plain(settings.get("options", {})), "dtype": dtype, "remat": remat}
    return {"name": settings["name"], "num_classes": num_classes, "options": options}


def create_model(spec: Mapping[str, Any]):
    """The flax module of a model spec."""
    return models.create(spec["name"], spec["num_classes"], **spec["options"])


def first_variables(model, settings: Mapping[str, Any], *, seed: int) -> Variables:
    """Fresh variables, then whatever `train.init` names on top of them.

    weights: a file (.pth, .safetensors, .npz), or pretrained weights by name; source: whose tensor names it has.
    checkpoint: a run of ours.
    skip: regular expressions of tensors that keep their fresh values, a classifier of other classes for example.
    """
    check_keys(settings, {"weights", "source", "checkpoint", "skip"}, where="train.init")
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(seed), jnp.zeros((1, 64, 64, 3), jnp.float32))
    skip = tuple(settings.get("skip", ()))
    if settings.get("weights") and settings.get("checkpoint"):
        raise UserError("train.init names both weights and a checkpoint; keep one of them.")
    if settings.get("weights"):
        name = settings["weights"]
        path = weights.pretrained(name)
        variables, report = weights.load(path, variables, source=settings.get("source") or None, skip=skip)
        log.info("weights %s: %s", name, _summary(report))
    if settings.get("checkpoint"):
        _, loaded, info = load_for_inference(settings["checkpoint"])
        variables, report = weights.load(loaded, variables, skip=skip)
        log.info("checkpoint %s, step %d: %s", settings["checkpoint"], info["step"], _summary(report))
    return variables


def _summary(report: weights.LoadReport) -> str:
    counts = ((name, len(getattr(report, name))) for name in ("matched", "missing", "unexpected", "replaced"))
    return ", ".join(f"{count} {name}" for name, count in counts)


def loss_terms(
    settings: Mapping[str, Any],
    loss_weights: Mapping[str, float],
    *,
    ignore_label: int = 255,
    loss_names: Mapping[str, str] | None = None,
) -> tuple[LossTerm, ...]:
    """The terms of `train.loss`: name -> {name, on, weight, options, align_corners}.

    on: an output of the network; "aux", the mean over its auxiliary heads; or "heads" (default), all of its outputs
        with the weights they were published with, `loss_weights`; the terms are then called NAME and NAME.HEAD.
    loss_names: outputs that are no map (EncNet's "se") -> the loss that "heads" uses there instead, without options.
    """
    terms, loss_names = [], loss_names or {}
    for key in sorted(settings):
        term, where = settings[key], f"train.loss.{key}"
        check_keys(term, {"name", "on", "weight", "options", "align_corners"}, where=where, required=["name"])
        function = choose(losses.LOSSES, term["name"], where=f"{where}.name")
        given = ("logits", "labels", "ignore_label", "epoch")
        options = options_of(term.get("options", {}), function, where=f"{where}.options", given=given)
        on = term.get("on", "heads")
        for head, share in (loss_weights if on == "heads" else {on: 1.0}).items():
            own = loss_names.get(head) if on == "heads" else None
            terms.append(
                LossTerm(
                    name=f"{key}.{head}" if on == "heads" and head != "logits" else key,
                    function=_with_epoch(losses.LOSSES[own], ignore_label=ignore_label)
                    if own
                    else _with_epoch(function, ignore_label=ignore_label, **options),
                    weight=term.get("weight", 1.0) * share,
                    on=head,
                    align_corners=term.get("align_corners", False),
                    resize=(own or term["name"]) not in losses.AT_LOGIT_SIZE,
                )
            )
    if not terms:
        raise UserError("config key train.loss has no terms; add for example main={'name': 'cross_entropy'}.")
    return tuple(terms)


def _with_epoch(function, **options):
    if "epoch" in inspect.signature(function).parameters:
        return functools.partial(function, **options)
    return lambda logits, labels, *, epoch: function(logits, labels, **options)


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the input, in 0..1 units."""
    choose(augment.NORMALISATION, name, where="normalisation")
    return augment.normalisation(name)
