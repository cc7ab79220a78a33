"""First variables of a training: a fresh network, and over it the weights that the recipe's section `init` names."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from segjax import models, weights
from segjax.data import LabelMap
from segjax.errors import UserError, choose
from segjax.typing import Variables
from segjax.weights.runs import load_for_inference

log = logging.getLogger("segjax")


@dataclass(frozen=True, kw_only=True)
class Init:
    """The section `init` of a recipe: first weights.

    weights: a file (.pth, .safetensors, .npz), a folder of shards or of orbax, the name of published weights, or
        "imagenet" for those of the network's trunk.
    key: of the dictionary of tensors in `weights` if it has several that fit, see `weights.load`.
    source: key of `weights.SOURCES` for the tensor names, if the weights do not determine it.
    checkpoint: folder of a training run, a file that `segjax export_weights` wrote, or an earlier stage.
    scope: "all", or "backbone" for the trunk only.
    skip: one or several regular expressions; matching tensors keep their fresh values.
    """

    weights: str = ""
    key: str = ""
    source: str = ""
    checkpoint: str = ""
    scope: str = "all"
    skip: Sequence[str] | str = ()


def model_spec(
    name: str, options: Mapping[str, Any], *, num_classes: int, dtype: str, remat: bool | str
) -> dict[str, Any]:
    """Returns the model spec {"name", "num_classes", "options"}, from which `models.from_spec` builds the network."""
    return {"name": name, "num_classes": num_classes, "options": {**options, "dtype": dtype, "remat": remat}}


def with_source_options(spec: Mapping[str, Any], init: Init) -> dict[str, Any]:
    """Returns a model spec with the options that the first weights require; options of the spec override them.

    spec: see `model_spec`.
    init: names the weights.

    Raises UserError if the network lacks such an option, because it would differ from the one that was trained.
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
            log.info("weights of %s have %s=%r; the recipe overrides it: %r", source, key, value, spec["options"][key])
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
    part: str = "",
) -> Variables:
    """Returns fresh variables, overwritten by the weights that `init` names.

    model: the network.
    init: which weights.
    seed: of the fresh values.
    inputs: arguments of the network's call, by default images.
    where: config key of `init`, for errors.
    class_names: of the dataset. If the checkpoint has the same number of classes but other names, its classifier is
        kept and a warning is logged.
    normalisation: of the dataset's images. If the weights were trained with another, a warning is logged.
    part: of the checkpoint's network that is loaded, "propagation" of a `VideoSegmenter`; "" for all of it.

    Raises UserError for both weights and a checkpoint, for a key without weights, for weights that are not found or do
    not fit, and for a trunk that the network lacks.
    """
    start, arguments = _fresh(model, inputs)
    variables = jax.jit(start)(jax.random.key(seed), *arguments)
    only = _scope(model, variables, init.scope or "all")
    check_init(model, init, where)
    if init.weights and init.checkpoint:
        raise UserError(
            f"{where} names both weights and a checkpoint; keep one (an empty {where}.weights= clears a preset's)."
        )
    if init.key and not init.weights:
        raise UserError(f"{where}.key={init.key!r} means nothing without {where}.weights; leave it out.")
    remedies = {name: f"{where}.{name}=" for name in ("key", "source", "skip")}
    if init.weights:
        name = _imagenet(model, variables) if init.weights == "imagenet" else init.weights
        found = weights.find(name)
        source = init.source or found.source or None
        variables, report = weights.load(
            found.path, variables, source=source, skip=init.skip, only=only, key=init.key, remedies=remedies
        )
        log.info("weights %s, from %s: %s", name, found.origin, _summary(report))
        _warn_other_normalisation(f"weights {name}", weights.find_source(source).normalisation, normalisation)
    if init.checkpoint:
        _, loaded, info = load_for_inference(init.checkpoint)
        loaded = {name: tree[part] for name, tree in loaded.items() if part in tree} if part else loaded
        remedies = {"skip": remedies["skip"]}  # a checkpoint has one network, under the names of this package
        variables, report = weights.load(loaded, variables, skip=init.skip, only=only, remedies=remedies)
        log.info("checkpoint %s, step %s: %s", init.checkpoint, info["step"], _summary(report))
        _warn_other_normalisation(f"checkpoint {init.checkpoint}", info.get("normalisation", ""), normalisation)
        other = other_classes(info, class_names)
        kept = set(report.matched) & classifiers(model, variables) if other else set()
        if kept:
            leaves = ", ".join(sorted({name.rpartition(".")[0] for name in kept}))
            log.warning(
                "checkpoint %s: %s; %s is kept: name it in %s.skip to start it fresh",
                init.checkpoint, other, leaves, where,
            )  # fmt: skip
    return variables


def abstract_first_variables(model: Any, inputs: tuple[Any, ...] | None = None) -> Variables:
    """Returns the shapes of the variables that `first_variables` returns; arguments as there."""
    start, arguments = _fresh(model, inputs)
    return jax.eval_shape(start, jax.random.key(0), *arguments)


def _fresh(model: Any, inputs: tuple[Any, ...] | None) -> tuple[Callable[..., Variables], tuple[Any, ...]]:
    return functools.partial(model.init, train=False), inputs or models.FAMILIES["image"].inputs(model)


def check_init(model: Any, init: Init, where: str) -> None:
    """Raises UserError for ImageNet weights of a network that is built for random initial weights.

    model: the network.
    init: which weights.
    where: config key of `init`.
    """
    if init.weights == "imagenet" and getattr(model, "random_init", False):
        raise UserError(
            f"{where}.weights='imagenet' does not fit the network's option random_init=True, whose trunk lacks layers; "
            "leave one of them out."
        )


def _warn_other_normalisation(what: str, theirs: str, ours: str) -> None:
    if theirs and ours and theirs != ours:
        log.warning("%s: trained on images with normalisation=%r; here it is %r", what, theirs, ours)


def other_classes(info: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """Returns how a checkpoint's class names differ from a dataset's; "" if they are equal or of another number.

    info: of the checkpoint, see `load_for_inference`.
    class_names: of the dataset.
    """
    if not info.get("label_map") or not class_names:
        return ""
    there = LabelMap.from_dict(info["label_map"]).class_names
    differ = [(a, b) for a, b in zip(there, class_names) if a.casefold() != b.casefold()]
    if len(there) != len(class_names) or not differ:
        return ""
    (old, new), more = differ[0], f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    return f"of its {len(there)} classes {old!r} is {new!r} in the dataset{more}"


def classifiers(model, variables: Variables) -> set[str]:
    """Returns the names of the leaves whose shape depends on the number of classes."""
    larger = functools.partial(model.clone(num_classes=model.num_classes + 1).init, train=False)
    other = weights.sizes(jax.eval_shape(larger, jax.random.key(0), *models.FAMILIES["image"].inputs(model)))
    return {name for name, size in weights.sizes(variables).items() if other[name] != size}


def _scope(model, variables: Variables, scope: str) -> str:
    """Returns the regular expression of the leaves in `train.init.scope`, "" for all."""
    choose({"all": "all", "backbone": "backbone"}, scope, where="train.init.scope")
    if scope == "all":
        return ""
    _trunk(model, variables)  # raises UserError for a network without trunk
    return models.trunk_pattern(model)


def _imagenet(model, variables: Variables) -> str:
    """Returns the name of the ImageNet weights of the network's trunk."""
    trunk = _trunk(model, variables)
    return weights.imagenet(sum(trunk.values()), trunk)


def _trunk(model, variables: Variables) -> dict[str, int]:
    """Returns PyTorch name -> size of each parameter of the trunk. Raises UserError for a network without trunk."""
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
