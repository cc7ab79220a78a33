"""Stage "evaluate": the trained network on a split, as a table, files and pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import jax

from segjax import data, inference, metrics, parallel
from segjax.errors import UserError
from segjax.evaluation import scorer as scoring
from segjax.files import plain
from segjax.stages import build
from segjax.stages.config.keys import check_keys, check_numbers
from segjax.weights.runs import load_for_inference

log = logging.getLogger("segjax")

KEYS = {
    "kind", "dataset", "checkpoint", "split", "batch_size", "protocol", "limit", "worst", "mesh", "dtype",
    "benchmark", "boundary",
}  # fmt: skip
VIEWS = ("scales", "flip", "window", "overlap", "average", "multiple", "base_size")  # options of inference.predict


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Writes the class table, confusion matrix and worst images to the stage's folder. Returns the report.

    settings.checkpoint: the name of a stage of this run, or a folder. benchmark: also score by the rule of that server
    (`segjax.metrics.RULES`). boundary: also score outlines.
    """
    check(settings, where=context.name)
    mesh = parallel.make_mesh(plain(settings.get("mesh", {"data": -1})))
    dataset = settings.get("dataset") or context.dataset
    source = build.open_split(dataset, settings["split"])
    extra = extra_scores(settings, source, dataset)
    spec, variables, info = load_for_inference(build.find_run(settings["checkpoint"], context.workdir))
    if spec["num_classes"] != source.num_classes:
        raise UserError(
            f"the network in {settings['checkpoint']} knows {spec['num_classes']} classes but the dataset "
            f"{dataset['name']} has {source.num_classes}; evaluate it on the data set it was trained for."
        )
    if other := build.other_classes(info, source.class_names):
        log.warning("checkpoint %s: %s; it is scored as if they were the same", settings["checkpoint"], other)
    dtype = build.compute_dtype(settings.get("dtype", "auto"))
    model = build.create_model({**spec, "options": {**spec["options"], "dtype": dtype}})
    score = scoring.Scorer(
        model,
        source,
        mesh=mesh,
        normalisation=info["normalisation"],
        batch_size=settings.get("batch_size", 1),
        limit=settings.get("limit") or None,
        **views(settings),
    )
    evaluation = score(scoring.replicate(variables, mesh), worst=settings.get("worst", 0), observe=extra)
    found = extra.report() if extra else {}
    where = f"{dataset['name']} {settings['split']}, {evaluation.images} images"
    if not evaluation.matrix.any():
        log.warning("%s: not one pixel is labelled, so there is no score", where)
    title = f"{spec['name']}, step {info['step']}: {where}"
    if jax.process_index() == 0:
        inference.print_scores(evaluation.matrix, source.class_names, title=title)
        inference.write_report(
            evaluation,
            context.folder,
            class_names=source.class_names,
            palette=source.palette,
            names=lambda record: source.names[record],
            title=title,
        )
        for name, scores in found.items():
            log.info("%s: %s", name, ", ".join(inference.describe_scores(scores)))
        log.info("pictures and tables: %s", context.folder)
    return {
        **scoring.headline(evaluation),
        "iou": scoring.per_class(evaluation, source.class_names),
        "images": evaluation.images,
        "images_per_second": round(evaluation.images / max(evaluation.seconds, 1e-9), 2),
        "checkpoint_step": info["step"],
        **found,
    }


def check(settings: Mapping[str, Any], *, where: str) -> None:
    """Raises UserError for keys and names that are not known; reads no data."""
    check_keys(settings, {*KEYS, *VIEWS}, where=where, required=("checkpoint", "split"))
    check_keys(settings.get("mesh", {}), ("data", "space"), where=f"{where}.mesh")
    check_numbers(settings, ("batch_size",), where=where, low=1)
    check_numbers(settings, ("limit", "worst"), where=where, low=0)
    build.compute_dtype(settings.get("dtype", "auto"))
    if settings.get("benchmark"):
        metrics.find_rule(settings["benchmark"])
    inference.check_views(**views(settings))


def extra_scores(
    settings: Mapping[str, Any], source: data.Source, dataset: Mapping[str, Any]
) -> inference.ExtraScores | None:
    """What `benchmark` and `boundary` ask for, None for neither. iIoU needs a build with the option instances=True."""
    rule, boundary = settings.get("benchmark", ""), bool(settings.get("boundary", False))
    if not (rule or boundary):
        return None
    instances = None
    if rule and metrics.find_rule(rule).sizes:
        if dataset.get("options", {}).get("instances", False):
            maps = build.open_split(dataset, settings["split"], instances=True)
            instances = lambda record: maps[record].instances  # noqa: E731
        else:
            log.warning("benchmark %r: no iIoU, which needs --config.dataset.options.instances=True", rule)
    return inference.ExtraScores(
        source.class_names,
        rule=rule,
        instances=instances,
        train_id_of=source.label_map.table.ids,
        boundary=boundary,
    )


def views(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `predict`: those of the named protocol, then what the settings add; () and False add nothing."""
    options = inference.find_protocol(settings.get("protocol") or "single")
    for name in VIEWS:
        value = plain(settings.get(name, []))
        if value not in ([], False):
            options[name] = tuple(value) if isinstance(value, list) else value
    return options
