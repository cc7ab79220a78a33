"""Stage "train_gsvnet": trains a network that carries the labels of keyframes on to the next frames of a video."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from segjax import augment, data, evaluation, losses, models, parallel, weights
from segjax.costs.program import log_step_costs
from segjax.data import LabelMap
from segjax.data.plans import make_plan
from segjax.errors import UserError
from segjax.evaluation.snippets import by_distance, interval_scores, snippet_class_ids
from segjax.inference.network import find_run
from segjax.stages.config.keys import check_keys, check_numbers, options_of, recipe_options
from segjax.stages.extension import begin_extension, last_rate
from segjax.stages.preview import image_network
from segjax.stages.run_plan import make_run_plan
from segjax.stages.snippet_data import SnippetOptions, open_held_out, open_snippets, read_snippets
from segjax.stages.stage import Context, Preview, Stage
from segjax.stages.terms import read_loss
from segjax.stages.train_gsvnet_step import (
    OUTPUTS,
    UNIT,
    KeyframeOptions,
    Options,
    make_network,
    make_training,
    program,
    useful_flops,
)
from segjax.stages.training_options import KEYS, find_init, read_training, training_inputs, warn_of_first_weights
from segjax.training.placement import place_state
from segjax.training.run import Score, TrainingTask, run_training
from segjax.training.start import first_variables
from segjax.training.terms import check_outputs
from segjax.weights.runs import KEYFRAME, has_checkpoint, load_for_inference, load_keyframe, with_keyframe

WITHOUT_PARAMETERS = ("copy", "warp_dis")


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys, names and outputs, and wrong values."""
    own = {"keyframe", "augment", "loss", *recipe_options(SnippetOptions)}
    required = ("batch_size", "crop", "model", "keyframe", "loss", "optimizer")
    check_keys(settings, KEYS | own, where=where, required=required)
    check_numbers(settings, ("frame_step", "gradient_steps"), where=where, low=0)
    training = read_training(settings, where, family="propagation")
    if training["model"] in WITHOUT_PARAMETERS:
        raise UserError(
            f"config key {where}.model.name={training['model']!r} has nothing to train; evaluate it instead."
        )
    if training["plan"].crop.scale_range != (1.0, 1.0):
        raise UserError(f"config key {where}.crop.scale_range: snippets have a list of factors; write {where}.scales.")
    if training["mesh"].get("space", 1) != 1:
        raise UserError(f"config key {where}.mesh: a training on snippets splits the batch only; set space=1.")
    loss = read_loss(settings["loss"], (), f"{where}.loss")
    check_outputs(loss, OUTPUTS, {}, where=f"{where}.loss")
    for key, term in loss.items():
        if "soft_ids" in losses.targets_of(losses.LOSSES[term.name]):
            raise UserError(f"config key {where}.loss.{key}.name={term.name!r} needs soft labels, which snippets lack.")
    keyframe = KeyframeOptions(**options_of(settings["keyframe"], KeyframeOptions, where=f"{where}.keyframe"))
    check_numbers(settings["keyframe"], ("scale", "train_scale"), where=f"{where}.keyframe", low=1e-3, whole=False)
    return Options(
        **training,
        keyframe=keyframe,
        snippets=read_snippets(settings, where),
        augmentation=options_of(settings.get("augment", {}), augment.augment_batch, where=f"{where}.augment"),
        loss=loss,
    )


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage; once it has checkpoints, it has the keyframe network too."""
    return {**training_inputs(options, begun), "keyframe.checkpoint": "" if begun else options.keyframe.checkpoint}


def check(options: Options, preview: Preview) -> None:
    """Raises UserError for a keyframe network that labels no image, or lacks what the propagation network reads."""
    if has_checkpoint(preview.workdir / preview.name / "checkpoints"):
        return  # it has a copy of the network, and the one that it is from may be gone
    warn_of_first_weights(options, preview)
    checkpoint = options.keyframe.checkpoint
    _, _, output = image_network(preview.spec_of, checkpoint, f"{preview.name}.keyframe.checkpoint")
    propagation = models.create_propagation(options.model, output.logits.shape[-1], **options.model_options)
    jax.eval_shape(lambda output: propagation.start(output, (64, 64)), output)


def run(options: Options, context: Context) -> dict[str, Any]:
    """Trains to the end of the schedule, from the newest checkpoint if there is one, and returns the report.

    Raises UserError for data and weights that cannot be read or do not fit the settings, and as `run_training` does.
    """
    mesh = parallel.make_mesh(options.mesh)
    dataset = options.dataset or context.dataset
    keyframe_spec, keyframe, info = keep_keyframe(options.keyframe, context)
    label_map = LabelMap.from_dict(info["label_map"], name=f"the label map of {options.keyframe.checkpoint}")
    snippets = open_snippets(options.snippets, dataset, options.reading, label_map, where=context.name)
    held_out = open_held_out(options.snippets, dataset, options.reading, label_map, where=context.name)

    spec, module = make_network(options, keyframe_spec)
    variables = first_variables(
        module.propagation,
        find_init(options.init, context),
        seed=context.seed,
        inputs=models.example_inputs(spec, module.propagation),
        where=f"{context.name}.init",
        part="propagation",
    )
    epochs = make_plan("uniform", {}, snippets, seed=context.seed)
    plan = make_run_plan(options.plan, epochs, mesh, options.snippets.frames_of)
    normalisation = info["normalisation"]
    optimizer, schedule, step_of = make_training(
        options, module, variables["params"], plan, normalisation, context.seed
    )
    task = TrainingTask(
        samples=data.SnippetCrops(snippets, options.snippets.scales),
        plan=plan,
        make_step=step_of,
        state=place_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0),
        frozen=parallel.replicate(keyframe, mesh),
        meta={
            "model": spec,
            "normalisation": normalisation,
            "label_map": info["label_map"],
            "dataset": dataset.settings,
            "config": context.settings,
        },
        score=make_score(options, held_out, module, normalisation, keyframe, mesh),
        describe=functools.partial(
            log_step_costs, mesh=mesh, spec=spec, useful=functools.partial(useful_flops, options, spec), unit=UNIT
        ),
    )
    begin_extension(context, plan, schedule)
    _, report = run_training(task, options.run, options.reading, mesh, name=context.name, folder=context.folder)
    report |= {
        "last_learning_rate": last_rate(schedule, plan),
        "snippets": len(snippets),
        "frames_without_snippet": {"count": len(snippets.skipped), "first": snippets.skipped[:20]},
        "keyframe": {"model": keyframe_spec, "step": info["step"], **dataclasses.asdict(options.keyframe)},
    }
    return {**report, **({"validation": report["history"][-1]} if report["history"] else {})}


def keep_keyframe(options: KeyframeOptions, context: Context) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Returns (model spec, variables, info) of the keyframe network, a copy of which the stage keeps in its folder.

    A training that resumes reads the copy, so that it goes on with the same network.
    Raises UserError for a checkpoint that cannot be read.
    """
    path: Path = context.folder / KEYFRAME
    if jax.process_index() == 0 and not path.is_file():
        spec, variables, info = load_for_inference(find_run(options.checkpoint, context.workdir))
        info = {name: info[name] for name in ("normalisation", "label_map", "step") if name in info}
        weights.save(path, variables, info={**info, "model": spec})
    parallel.sync("keyframe network")
    return load_keyframe(context.folder)


def make_score(
    options: Options, held_out: data.Snippets | None, module: Any, normalisation: str, keyframe: Any, mesh: Mesh
) -> Score | None:
    """Builds (state, after_batch) -> scores of the longest interval on the snippets held out.

    Returns None without them, or without eval_*.
    """
    if held_out is None or options.plan.evaluate is None:
        return None
    scorer = evaluation.Scorer(
        snippet_class_ids(module, normalisation),
        held_out,
        mesh=mesh,
        batch_size=options.plan.batch_size,
        limit=options.eval_limit,
    )
    frozen = parallel.replicate(keyframe, mesh)

    def score(state: Any, after_batch: Callable[..., None]) -> dict[str, float]:
        matrices = by_distance(scorer(with_keyframe(state.best_variables, frozen), progress=after_batch))
        return {f"{name}_miou": value for name, value in interval_scores(matrices, len(matrices)).items()}

    return score


STAGE = Stage(read, run, inputs, check, extends=True, program=program)
