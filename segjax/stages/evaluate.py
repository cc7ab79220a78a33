"""Stage "evaluate": scores of a trained network on a split, as a table, files and pictures."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import evaluation, inference, metrics, models, parallel, visualize
from segjax.data import Source
from segjax.errors import UserError, did_you_mean
from segjax.evaluation.confusions import MAIN
from segjax.evaluation.levels import level_scores, level_table, write_levels
from segjax.inference.network import Network, class_ids, compute_dtype, find_run, open_network, output_names
from segjax.stages.assumed import Assumed, Program, labelling_program
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.config.views import ViewOptions
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.own_classes import check_choice, compared_classes
from segjax.stages.preview import image_network
from segjax.stages.stage import Context, Preview, Stage
from segjax.training.start import abstract_first_variables, other_classes
from segjax.typing import SegOutput, Variables

log = logging.getLogger("segjax")

ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ViewOptions):
    """The section of a stage "evaluate", beside the views.

    dataset: None = `config.dataset`.
    checkpoint: name of a stage of this run, or a folder.
    split: to score.
    batch_size: images of a batch.
    limit: number of images, spread evenly; 0 = all.
    worst, best: number of images in the pictures of the worst and of the best.
    outputs: names of outputs to score beside the logits, or "all"; () = none.
    output_images: number of images in the picture of the outputs, spread evenly.
    mesh: axis -> number of devices.
    dtype: of the computation.
    benchmark: key of `metrics.RULES` for scores by the rule of that server, "" for none.
    boundary: whether to score outlines too.
    classes: among which the network chooses, and which are scored: "all" of the network, or the dataset's "own".
    """

    checkpoint: str
    split: str
    batch_size: int = 1
    limit: int = 0
    worst: int = 0
    best: int = 0
    outputs: Any = ()
    output_images: int = 4
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    dtype: str = "auto"
    benchmark: str = ""
    boundary: bool = False
    classes: str = "all"
    dataset: Dataset | None = None


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys and names, and wrong numbers or views."""
    rest = {key: value for key, value in settings.items() if key not in ("kind", "dataset")}
    options = Options(**options_of(rest, Options, where=where), dataset=read_own_dataset(settings, where))
    check_keys(options.mesh, ("data", "space"), where=f"{where}.mesh")
    check_numbers(settings, ("batch_size",), where=where, low=1)
    check_numbers(settings, ("limit", "worst", "best", "output_images"), where=where, low=0)
    outputs = options.outputs
    if outputs != ALL and not (isinstance(outputs, tuple) and all(isinstance(name, str) for name in outputs)):
        raise UserError(f"config key {where}.outputs={outputs!r} must be 'all', or list outputs, as in ('aux',).")
    compute_dtype(options.dtype)
    if options.benchmark:
        metrics.find_rule(options.benchmark)
    inference.check_views(**options.views)
    check_choice(settings, "classes", where=where)
    return options


def check(options: Options, preview: Preview) -> None:
    """Raises UserError for a server's scores of resized images, and an output that the network lacks."""
    dataset = options.dataset or preview.dataset
    if options.benchmark and dataset.resize:
        raise UserError(
            f"config key {dataset.where}.resize makes other images than those that the server of "
            f"benchmark={options.benchmark!r} scores; give the stage a dataset without resize and views such as "
            "scales=(0.5,), or no benchmark."
        )
    if options.outputs:
        _, _, output = image_network(preview.spec_of, options.checkpoint, f"{preview.name}.checkpoint")
        chosen_outputs(options, output, where=preview.name)


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return {"checkpoint": options.checkpoint}


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes the class table, confusion matrix, worst and best images to the stage's folder, and returns the report.

    Raises UserError for a checkpoint that cannot be read, a network with another number of classes than the dataset,
    and data that cannot be read.
    """
    mesh = parallel.make_mesh(options.mesh)
    dataset = options.dataset or context.dataset
    source = dataset.open(options.split)
    network = open_scored(options.checkpoint, source, dataset, context.workdir, dtype=options.dtype)
    outputs = chosen_outputs(options, output_shapes(network, source), where=context.name) if options.outputs else ()
    source, compared = compared_classes(options.classes, dataset, source, options.split)
    extra = extra_scores(options, source, dataset)
    scorer = evaluation.Scorer(
        class_ids(network.module, network.normalisation, outputs, classes=compared, **options.views),
        source,
        mesh=mesh,
        batch_size=options.batch_size,
        limit=options.limit or None,
    )
    variables = parallel.replicate(network.variables, mesh)
    count = min(len(source), options.limit or len(source))
    shown = np.linspace(0, count - 1, num=options.output_images).astype(int) * len(source) // count if outputs else ()
    scored = scorer(variables, worst=options.worst, best=options.best, keep=set(map(int, shown)), observe=extra)
    found = extra.report() if extra else {}
    where = f"{dataset} {options.split}, {scored.images} images"
    if compared:
        where += f", {len(compared)} of {network.spec['num_classes']} classes"
    if not scored.matrix.any():
        log.warning("%s: not one pixel is labelled, so there is no score", where)
    title = f"{network.spec['name']}, step {network.step}: {where}"
    if jax.process_index() == 0:
        evaluation.print_scores(scored.matrix, source.class_names, title=title)
        evaluation.write_report(
            scored,
            context.folder,
            class_names=source.class_names,
            palette=source.palette,
            names=lambda record: source.names[record],
            title=title,
        )
        if outputs:
            visualize.print_table(level_table(level_scores(scored, outputs, source.class_names), title=title))
            write_levels(
                scored,
                outputs,
                context.folder,
                class_names=source.class_names,
                palette=source.palette,
                name_of=lambda record: source.names[record],
                title=title,
            )
        for name, scores in found.items():
            log.info("%s: %s", name, ", ".join(evaluation.describe_scores(scores)))
        log.info("pictures and tables: %s", context.folder)
    return {
        **evaluation.headline(scored),
        "iou": evaluation.per_class(scored, source.class_names),
        "images": scored.images,
        "images_per_second": round(scored.images / max(scored.seconds, 1e-9), 2),
        "checkpoint_step": network.step,
        **({"outputs": level_scores(scored, outputs, source.class_names)} if outputs else {}),
        **found,
    }


def open_scored(checkpoint: str, source: Source, dataset: Dataset, workdir: Path, *, dtype: str) -> Network:
    """Opens a network to be scored.

    checkpoint: name of a stage of the run, or a path.
    source: records that it is scored on.
    dataset: of the source, for errors.
    workdir: folder of the run.
    dtype: of the computation.

    Raises UserError for a checkpoint that cannot be read, and a network with another number of classes.
    """
    network = open_network(find_run(checkpoint, workdir), dtype=dtype, resize=dataset.resize)
    if network.spec["num_classes"] != source.num_classes:
        raise UserError(
            f"the network in {checkpoint} knows {network.spec['num_classes']} classes but the dataset "
            f"{dataset.name} has {source.num_classes}; evaluate it on the data set it was trained for, or give "
            f"{dataset.where}.label_map a map onto its classes."
        )
    if other := other_classes(network.info, source.class_names):
        log.warning("checkpoint %s: %s; it is scored as if they were the same", checkpoint, other)
    return network


def output_shapes(network: Network, source: Source) -> SegOutput:
    """Returns the shapes of the outputs for the first image of a source."""
    return shapes_of(network.module, network.variables, tuple(map(int, source.sizes[0])))


def shapes_of(module: Any, variables: Variables, size: tuple[int, int]) -> SegOutput:
    """Returns the shapes of the outputs of a network for one image; variables: arrays or shapes."""
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(module.apply, train=False), variables, images)


def chosen_outputs(options: Options, output: SegOutput, *, where: str) -> tuple[str, ...]:
    """Returns the names of the outputs to score: those of the section, then "logits"; or all, from coarse to fine.

    output: of the network, arrays or shapes.
    where: config key of the stage.

    Raises UserError with the nearest name for an output that the network lacks.
    """
    names = output_names(output)
    if options.outputs == ALL:
        return names
    for name in options.outputs:
        if name not in names:
            raise UserError(
                f"config key {where}.outputs names {name!r}, which the network in {options.checkpoint} does not have."
                f"{did_you_mean(name, names)}"
            )
    return (*(name for name in dict.fromkeys(options.outputs) if name != MAIN), MAIN)


def extra_scores(options: Options, source: Source, dataset: Dataset) -> evaluation.ExtraScores | None:
    """Returns the observer that computes `benchmark` and `boundary`, None for neither.

    iIoU needs a dataset that was built with instances=True; without, a warning is logged.
    """
    if not (options.benchmark or options.boundary):
        return None
    instances = None
    if options.benchmark and metrics.find_rule(options.benchmark).sizes:
        if dataset.options.get("instances", False):
            maps = dataset.open(options.split, fields=("instances",))
            instances = lambda record: maps[record].instances  # noqa: E731
        else:
            log.warning("benchmark %r: no iIoU, which needs --config.dataset.options.instances=True", options.benchmark)
    return evaluation.ExtraScores(
        source.class_names,
        rule=options.benchmark,
        instances=instances,
        train_id_of=source.label_map.table.ids,
        boundary=options.boundary,
    )


def program(options: Options, assumed: Assumed) -> Program:
    """Returns the network's program for one batch, which also scores the outputs asked for. See `Stage.program`.

    Its class ids are counted by another program, a small one. All classes of the network are compared.
    """
    images = assumed.images
    spec = {"num_classes": images.num_classes, **assumed.spec_of(options.checkpoint)}
    spec = {**spec, "options": {**spec["options"], "dtype": compute_dtype(options.dtype), "remat": False}}
    module = models.from_spec(spec)
    variables = abstract_first_variables(module)
    outputs = ()
    if options.outputs:
        outputs = chosen_outputs(options, shapes_of(module, variables, images.size), where="evaluate")
    # any normalisation does: it is a multiplication and an addition
    predict = class_ids(module, "imagenet", outputs, **options.views)
    rows = evaluation.rows_of_batch(options.batch_size, assumed.mesh)
    return labelling_program(predict, spec, variables, (rows, *images.size, 3), assumed.mesh)


STAGE = Stage(read, run, inputs, check, again="when_stale", program=program)
