"""What a training starts from: a fresh network, and the weights that the recipe's section `init` names."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from segjax import models, weights
from segjax.data import LabelMap
from segjax.errors import UserError, choose
from segjax.typing import Variables
from segjax.weights.runs import load_for_inference

log = logging.getLogger("segjax")


@dataclass(frozen=True, kw_only=True)
class Init:
    """First weights as a recipe names them.

    weights: a file (.pth, .safetensors, .npz) or orbax folder, published weights by name, or "imagenet" for those of
        the network's trunk. source: whose tensor names they have, when the weights do not determine it.
    checkpoint: a training run, what `segjax export_weights` made of one, or an earlier stage.
    scope: "all", or "backbone" for the trunk only.
    skip: regular expressions, or one, of tensors that keep their fresh values.
    """

    weights: str = ""
    source: str = ""
    checkpoint: str = ""
    scope: str = "all"
    skip: Sequence[str] | str = ()


def model_spec(name: str, options: Mapping[str, Any], *, num_classes: int, dtype: str, remat: bool) -> dict[str, Any]:
    """Returns what a checkpoint must contain to build the network again: name, num_classes, options."""
    return {"name": name, "num_classes": num_classes, "options": {**options, "dtype": dtype, "remat": remat}}


def with_source_options(spec: Mapping[str, Any], init: Init) -> dict[str, Any]:
    """The model spec with the options that come with the weights `train.init` names; those of the spec stay.

    Raises UserError when the network lacks such an option, as it could not be equal to the one the weights are of.
    """
    source = init.source or weights.source_of(init.weights)
    known, added = models.options(spec["name"]), {}
    for key, value in weights.find_source(source or None).options.items():
        if key not in known:
            raise UserError(
                f"train.init.source={source!r} needs a network with the option {key}={value!r}, which "
                f"{spec['name']!r} does not have; take another network or other weights."
            )
        if key in spec["options"]:
            log.info("weights of %s want %s=%r; the config says %r", source, key, value, spec["options"][key])
        else:
            log.info("weights of %s come with the option %s=%r", source, key, value)
            added[key] = value
    return {**spec, "options": {**added, **spec["options"]}}


def first_variables(
    model: Any,
    init: Init,
    *,
    seed: int,
    inputs: tuple[Any, ...] | None = None,
    where: str = "train.init",
    class_names: Sequence[str] = (),
    normalisation: str = "",
) -> Variables:
    """Returns fresh variables with whatever `init` names on top of them.

    inputs: what the network is called with, by default images. where: the config key of `init`.
    class_names: what its outputs shall mean. If the checkpoint's are as many and mean something else, its classifier is
        kept and a warning logged. normalisation: of its images; a warning is logged if the weights were trained with
        another.
    Raises UserError for weights and a checkpoint at once, weights that do not fit, and a trunk the network lacks.
    """
    start = jax.jit(functools.partial(model.init, train=False))
    variables = start(jax.random.key(seed), *(inputs or (jnp.zeros((1, 64, 64, 3), jnp.float32),)))
    only = _scope(model, variables, init.scope or "all")
    if init.weights and init.checkpoint:
        raise UserError(
            f"{where} names both weights and a checkpoint; keep one (an empty {where}.weights= clears a preset's)."
        )
    if init.weights:
        name = _imagenet(model, variables) if init.weights == "imagenet" else init.weights
        found = weights.find(name)
        source = init.source or found.source or None
        variables, report = weights.load(found.path, variables, source=source, skip=init.skip, only=only)
        log.info("weights %s, from %s: %s", name, found.origin, _summary(report))
        _warn_other_normalisation(f"weights {name}", weights.find_source(source).normalisation, normalisation)
    if init.checkpoint:
        _, loaded, info = load_for_inference(init.checkpoint)
        variables, report = weights.load(loaded, variables, skip=init.skip, only=only)
        log.info("checkpoint %s, step %s: %s", init.checkpoint, info["step"], _summary(report))
        _warn_other_normalisation(f"checkpoint {init.checkpoint}", info.get("normalisation", ""), normalisation)
        other = other_classes(info, class_names)
        kept = set(report.matched) & classifiers(model, variables) if other else set()
        if kept:
            leaves = ", ".join(sorted({name.rpartition(".")[0] for name in kept}))
            log.warning(
                "checkpoint %s: %s; %s is kept as it is: name it in %s.skip to start it fresh",
                init.checkpoint, other, leaves, where,
            )  # fmt: skip
    return variables


def _warn_other_normalisation(what: str, theirs: str, ours: str) -> None:
    if theirs and ours and theirs != ours:
        log.warning("%s: trained on images with normalisation=%r; here it is %r", what, theirs, ours)


def other_classes(info: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """How the classes a checkpoint was trained on, as it notes them, differ from as many others; "" if they do not."""
    if not info.get("label_map") or not class_names:
        return ""
    there = LabelMap.from_dict(info["label_map"]).class_names
    differ = [(a, b) for a, b in zip(there, class_names) if a.casefold() != b.casefold()]
    if len(there) != len(class_names) or not differ:
        return ""
    (old, new), more = differ[0], f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    return f"of its {len(there)} classes {old!r} is {new!r} in the data set{more}"


def classifiers(model, variables: Variables) -> set[str]:
    """The leaves whose shape the number of classes sets."""
    larger = functools.partial(model.clone(num_classes=model.num_classes + 1).init, train=False)
    other = weights.sizes(jax.eval_shape(larger, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.float32)))
    return {name for name, size in weights.sizes(variables).items() if other[name] != size}


def _scope(model, variables: Variables, scope: str) -> str:
    """Regular expression of the leaves that `train.init.scope` names."""
    choose({"all": "all", "backbone": "backbone"}, scope, where="train.init.scope")
    if scope == "all":
        return ""
    _trunk(model, variables)  # refuses a network without one
    return models.trunk_pattern(model)


def _imagenet(model, variables: Variables) -> str:
    """Name of the ImageNet weights of the network's trunk."""
    trunk = _trunk(model, variables)
    return weights.imagenet(sum(trunk.values()), trunk)


def _trunk(model, variables: Variables) -> dict[str, int]:
    """PyTorch name -> number of values, of each parameter of the trunk. UserError for a network without one."""
    pattern = models.trunk_pattern(model)
    sizes = weights.sizes({"params": variables["params"]})
    trunk = {name: size for name, size in sizes.items() if pattern and re.search(pattern, name)}
    if not trunk:
        raise UserError(
            f"train.init asks for the trunk of {type(model).__name__}, which has none; give weights of the whole "
            "network with train.init.scope='all'."
        )
    return trunk


def _summary(report: weights.LoadReport) -> str:
    counts = ((name, len(getattr(report, name))) for name in ("matched", "missing", "unexpected", "replaced"))
    return ", ".join(f"{count} {name}" for name, count in counts)
