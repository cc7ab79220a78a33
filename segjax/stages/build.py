"""From settings to objects: the network, its first weights, the data, the loss terms. Shared by the stages."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from segjax import augment, losses, models, weights
from segjax.data import LabelMap, Source, open_source
from segjax.errors import UserError, choose
from segjax.files import plain
from segjax.stages.config.keys import check_keys, options_of
from segjax.training.step import LossTerm
from segjax.typing import Variables
from segjax.weights.runs import has_checkpoint, load_for_inference

log = logging.getLogger("segjax")


def open_split(
    dataset: Mapping[str, Any],
    split: str,
    *,
    labelled_only: bool = True,
    flow: bool = False,
    instances: bool = False,
    all_labels: bool = False,
) -> Source:
    """The records of one split ("train", "validation" or "test", or a split's own name) of config.dataset.

    labelled_only: leave out the others. flow, instances: read the stored optical flow, the instance maps too.
    all_labels: and the stored labels of frames that count as unlabelled.
    """
    check_dataset(dataset, where="dataset")
    return open_source(
        dataset["name"],
        dataset.get(split, split),
        data_dir=dataset.get("data_dir") or None,
        builder_options={key: value for key, value in plain(dataset.get("options", {})).items() if value != ""},
        label_map=dataset.get("label_map") or None,
        labelled_only=labelled_only,
        flow=flow,
        instances=instances,
        all_labels=all_labels,
    )


def check_dataset(dataset: Mapping[str, Any], *, where: str) -> None:
    """Raises UserError for keys of config.dataset that are not known."""
    known = {"name", "options", "train", "validation", "test", "data_dir", "label_map"}
    check_keys(dataset, known, where=where, required=["name"])


def compute_dtype(name: str) -> str:
    """ "auto" is bfloat16 on accelerators and float32 on CPU."""
    if name == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return choose({"float32": "float32", "bfloat16": "bfloat16"}, name, where="train.dtype")


def model_spec(settings: Mapping[str, Any], *, num_classes: int, dtype: str, remat: bool) -> dict[str, Any]:
    """What a checkpoint must know to build the network again: name, num_classes, options."""
    check_keys(settings, {"name", "options"}, where="model", required=["name"])
    options = {**plain(settings.get("options", {})), "dtype": dtype, "remat": remat}
    return {"name": settings["name"], "num_classes": num_classes, "options": options}


def create_model(spec: Mapping[str, Any]):
    """The flax module of a model spec, of a network for images or for video."""
    if spec["name"] in models.VIDEO_MODELS:
        return models.create_video(spec["name"], **spec["options"])
    return models.create(spec["name"], spec["num_classes"], **spec["options"])


def with_source_options(spec: Mapping[str, Any], init: Mapping[str, Any]) -> dict[str, Any]:
    """The model spec with the options that come with the weights `train.init` names; those of the spec stay.

    Raises UserError when the network lacks such an option, as it could not be equal to the one the weights are of.
    """
    source = init.get("source") or weights.source_of(init.get("weights", ""))
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


INIT_KEYS = ("weights", "source", "checkpoint", "scope", "skip")


def find_run(name: str, workdir: Path | None) -> Path:
    """The folder of a checkpoint: that of a stage of the run in `workdir` called so, or the path itself.

    Raises UserError where a run has no such stage and there is no such path either.
    """
    inside = None if workdir is None else workdir / name
    if inside is not None and inside.is_dir():
        return inside
    path = Path(name).expanduser()
    if inside is not None and not path.exists():
        raise UserError(f"checkpoint={name!r} is neither a stage of {workdir} that was run nor a path; run it first.")
    return path


def first_variables(
    model,
    settings: Mapping[str, Any],
    *,
    seed: int,
    inputs: tuple[Any, ...] | None = None,
    where: str = "train.init",
    class_names: Sequence[str] = (),
    normalisation: str = "",
) -> Variables:
    """Fresh variables, then whatever `train.init` names on top of them.

    weights: a file (.pth, .safetensors, .npz) or orbax folder, published weights by name, or "imagenet" for those of
        the network's trunk; source: whose tensor names they have, where the weights do not tell.
    checkpoint: a run of ours, what `segjax export_weights` made of one, or an earlier stage (see `run_init`).
    scope: "all", or "backbone" for the trunk only.
    skip: regular expressions, or one, of tensors that keep their fresh values.
    inputs: what the network is called with, by default images. class_names: what its outputs shall mean; where the
        checkpoint's mean something else and are as many, its classifier is kept, and a line of the log says so.
    normalisation: of its images; a line of the log says so where the weights were trained with another.
    """
    check_keys(settings, INIT_KEYS, where=where)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(seed), *(inputs or (jnp.zeros((1, 64, 64, 3), jnp.float32),)))
    only = _scope(model, variables, settings.get("scope") or "all")
    skip = settings.get("skip", ())
    if settings.get("weights") and settings.get("checkpoint"):
        raise UserError(
            f"{where} names both weights and a checkpoint; keep one (an empty {where}.weights= clears a preset's)."
        )
    if name := settings.get("weights"):
        name = _imagenet(model, variables) if name == "imagenet" else name
        found = weights.find(name)
        source = settings.get("source") or found.source or None
        variables, report = weights.load(found.path, variables, source=source, skip=skip, only=only)
        log.info("weights %s, from %s: %s", name, found.origin, _summary(report))
        _tell_other_normalisation(f"weights {name}", weights.find_source(source).normalisation, normalisation)
    if settings.get("checkpoint"):
        _, loaded, info = load_for_inference(settings["checkpoint"])
        variables, report = weights.load(loaded, variables, skip=skip, only=only)
        log.info("checkpoint %s, step %s: %s", settings["checkpoint"], info["step"], _summary(report))
        _tell_other_normalisation(f"checkpoint {settings['checkpoint']}", info.get("normalisation", ""), normalisation)
        other = other_classes(info, class_names)
        kept = set(report.matched) & classifiers(model, variables) if other else set()
        if kept:
            log.warning(
                "checkpoint %s: %s; %s is kept as it is: name it in %s.skip to start it fresh",
                settings["checkpoint"], other, ", ".join(sorted({name.rpartition(".")[0] for name in kept})), where,
            )  # fmt: skip
    return variables


def _tell_other_normalisation(what: str, theirs: str, ours: str) -> None:
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


def run_init(init: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The settings of `train.init`, with the folder of the stage that `checkpoint` names.

    None where the stage has checkpoints of its own: it goes on from these, and what it once began with may be gone.
    """
    init = plain(init)
    if has_checkpoint(context.folder / "checkpoints"):
        return {}
    if init.get("checkpoint"):
        init["checkpoint"] = str(find_run(init["checkpoint"], context.workdir))
    return init


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
                    count_of_labels=(own or term["name"]) not in losses.COUNT_OF_LOGITS,
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
