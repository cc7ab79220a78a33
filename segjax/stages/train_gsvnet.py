"""Stage "train_gsvnet": trains a network that carries the labels of keyframes on to the next frames of a video."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from segjax import augment, data, losses, models, parallel, weights
from segjax.data import LabelMap
from segjax.data.plans import make_plan
from segjax.data.video import FrameIndex, open_frames
from segjax.errors import UserError
from segjax.evaluation.clips import ClipScorer, by_distance, clip_class_ids, interval_scores
from segjax.inference.network import find_run
from segjax.stages.config.keys import check_keys, check_numbers, options_of, part_of, recipe_options
from segjax.stages.dataset import Dataset
from segjax.stages.extension import begin_extension, last_rate
from segjax.stages.preview import image_network
from segjax.stages.run_plan import make_run_plan
from segjax.stages.stage import Context, Preview, Stage
from segjax.stages.terms import read_loss
from segjax.stages.training_options import (
    KEYS,
    TrainingOptions,
    find_init,
    make_optimization,
    read_training,
    training_inputs,
)
from segjax.training.clip_step import LABELS, make_clip_step
from segjax.training.run import TrainingTask, place_state, run_training
from segjax.training.start import first_variables, model_spec
from segjax.training.step import Step
from segjax.training.terms import TermOptions, check_outputs, loss_terms
from segjax.training.update import make_update
from segjax.weights.runs import KEYFRAME, has_checkpoint, load_for_inference, load_keyframe, with_keyframe

log = logging.getLogger("segjax")

WITHOUT_PARAMETERS = ("copy", "warp_dis")
ORDERS = ("blocks", "mixed")
OUTPUTS = {"logits": 1.0}  # of a propagation network, with the weight of a term on "heads"


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyframeOptions:
    """The section `keyframe`: the network that labels keyframes; it is not trained.

    checkpoint: stage or run of an image network.
    scale: factor by which keyframes are resized, in evaluation and prediction (0.75 as published).
    train_scale: in training (1 as released).
    """

    checkpoint: str
    scale: float = 1.0
    train_scale: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """The clips of a training.

    frames: a folder of frames or a video, instead of a split, for labels="teacher"; "" for none.
    split, eval_split: of the dataset, with all frames of its videos; for training, and held out for scores.
    frame_step: see `FrameIndex`, 0 = the smallest that occurs.
    intervals: numbers of frames from the keyframe to the labelled frame.
    order: "blocks": one interval in each epoch, in turns (released). "mixed": another one at each step.
    gradient_steps, labels: see `make_clip_step`.
    scales: see `ClipCrops`.
    """

    frames: str = ""
    split: str = "train"
    eval_split: str = "validation"
    frame_step: int = 0
    intervals: Sequence[int] = (1, 2, 3, 4)
    order: str = "blocks"
    gradient_steps: int = 2
    labels: str = "truth"
    scales: Sequence[float] = (1.0,)

    def frames_of(self, epoch: int) -> tuple[int, ...]:
        """Returns the frames of the clips of an epoch's steps, in turns."""
        counts = tuple(interval + 1 for interval in self.intervals)
        return counts if self.order == "mixed" else (counts[epoch % len(counts)],)


@dataclasses.dataclass(frozen=True)
class Options(TrainingOptions):
    """The section of a stage "train_gsvnet".

    keyframe: see `KeyframeOptions`.
    clips: see `ClipOptions`.
    augmentation: keyword-only options of `augment.augment_batch`.
    loss: terms by name.
    """

    keyframe: KeyframeOptions
    clips: ClipOptions
    augmentation: Mapping[str, Any]
    loss: Mapping[str, TermOptions]


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys, names and outputs, and wrong values."""
    own = {"keyframe", "augment", "loss", *recipe_options(ClipOptions)}
    required = ("batch_size", "crop", "model", "keyframe", "loss", "optimizer")
    check_keys(settings, KEYS | own, where=where, required=required)
    check_numbers(settings, ("frame_step", "gradient_steps"), where=where, low=0)
    training = read_training(settings, where, family="propagation")
    if training["model"] in WITHOUT_PARAMETERS:
        raise UserError(
            f"config key {where}.model.name={training['model']!r} has nothing to train; evaluate it instead."
        )
    if training["plan"].crop.scale_range != (1.0, 1.0):
        raise UserError(f"config key {where}.crop.scale_range: clips have a list of factors; write {where}.scales.")
    if training["mesh"].get("space", 1) != 1:
        raise UserError(f"config key {where}.mesh: a training on clips splits the batch only; set space=1.")
    loss = read_loss(settings["loss"], (), f"{where}.loss")
    check_outputs(loss, OUTPUTS, {}, where=f"{where}.loss")
    for key, term in loss.items():
        if "soft_ids" in losses.targets_of(losses.LOSSES[term.name]):
            raise UserError(f"config key {where}.loss.{key}.name={term.name!r} needs soft labels, which clips lack.")
    keyframe = KeyframeOptions(**options_of(settings["keyframe"], KeyframeOptions, where=f"{where}.keyframe"))
    check_numbers(settings["keyframe"], ("scale", "train_scale"), where=f"{where}.keyframe", low=1e-3, whole=False)
    return Options(
        **training,
        keyframe=keyframe,
        clips=_read_clips(settings, where),
        augmentation=options_of(settings.get("augment", {}), augment.augment_batch, where=f"{where}.augment"),
        loss=loss,
    )


def _read_clips(settings: Mapping[str, Any], where: str) -> ClipOptions:
    clips = ClipOptions(**part_of(settings, ClipOptions))
    if not clips.intervals or not all(isinstance(n, int) and n >= 1 for n in clips.intervals):
        raise UserError(f"config key {where}.intervals={clips.intervals!r} must list whole numbers of 1 or more.")
    if not clips.scales or not all(isinstance(x, (int, float)) and x > 0 for x in clips.scales):
        raise UserError(f"config key {where}.scales={clips.scales!r} must list factors above 0.")
    for name, known in (("order", ORDERS), ("labels", LABELS)):
        if getattr(clips, name) not in known:
            raise UserError(f"config key {where}.{name}={getattr(clips, name)!r} must be {' or '.join(known)}.")
    if clips.frames and clips.labels == "truth":
        raise UserError(f"config key {where}.frames: a video has no labels; set {where}.labels='teacher'.")
    return clips


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage; once it has checkpoints, it has the keyframe network too."""
    return {**training_inputs(options, begun), "keyframe.checkpoint": "" if begun else options.keyframe.checkpoint}


def check(options: Options, preview: Preview) -> None:
    """Raises UserError for a keyframe network that labels no image, or lacks what the propagation network reads."""
    if has_checkpoint(preview.workdir / preview.name / "checkpoints"):
        return  # it has a copy of the network, and the one that it is from may be gone
    _, _, output = image_network(preview, options.keyframe.checkpoint, "keyframe.checkpoint")
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
    clips = open_clips(options.clips, dataset, options.reading, label_map, where=context.name)
    held_out = open_clips(options.clips, dataset, options.reading, label_map, where=context.name, held_out=True)

    spec = model_spec(
        options.model,
        options.model_options,
        num_classes=keyframe_spec["num_classes"],
        dtype=options.dtype,
        remat=options.remat,
    )
    whole = {**spec, "keyframe": {"spec": keyframe_spec, "scale": options.keyframe.scale}}
    module = models.from_spec(whole)
    variables = first_variables(
        module.propagation,
        find_init(options.init, context),
        seed=context.seed,
        inputs=models.example_inputs(spec, module.propagation),
        where=f"{context.name}.init",
        part="propagation",
    )
    epochs = make_plan("uniform", {}, clips, seed=context.seed)
    plan = make_run_plan(options.plan, epochs, mesh, options.clips.frames_of)
    optimizer, schedule = make_optimization(options.optimizer, variables["params"], plan)
    update, normalisation = make_update(optimizer, schedule, ema_decay=options.ema_decay), info["normalisation"]
    task = TrainingTask(
        samples=data.ClipCrops(clips, options.clips.scales),
        plan=plan,
        make_step=lambda bucket: make_step(options, module, update, normalisation, context, bucket),
        state=place_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0),
        frozen=parallel.replicate(keyframe, mesh),
        meta={
            "model": whole,
            "normalisation": normalisation,
            "label_map": info["label_map"],
            "dataset": dataset.settings,
            "config": context.settings,
        },
        score=make_score(options, held_out, module, normalisation, keyframe, mesh),
    )
    begin_extension(context, plan, schedule)
    _, report = run_training(task, options.run, options.reading, mesh, name=context.name, folder=context.folder)
    report |= {
        "last_learning_rate": last_rate(schedule, plan),
        "clips": len(clips),
        "frames_without_clip": {"count": len(clips.skipped), "first": clips.skipped[:20]},
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


def open_clips(
    options: ClipOptions,
    dataset: Dataset,
    reading: data.Reading,
    label_map: LabelMap,
    *,
    where: str,
    held_out: bool = False,
) -> data.Clips | None:
    """Opens the clips to train on, or those held out; returns None if none are held out.

    options: see `ClipOptions`.
    dataset: with the splits.
    reading: with the cache of frames.
    label_map: of the keyframe network.
    where: config key of the stage, for errors.

    Raises UserError for frames that cannot be read, and for classes that are not those of the keyframe network.
    """
    truth = options.labels == "truth" or held_out
    if options.frames and not held_out:
        source: Any = open_frames(options.frames)
    else:
        split = options.eval_split if held_out else options.split
        if held_out and (not split or (split == "validation" and not dataset.splits.get("validation"))):
            return None
        source = dataset.open(split, labelled_only=False, frames=True)
        if truth and tuple(source.class_names) != tuple(label_map.class_names):
            theirs = ", ".join(label_map.class_names)
            raise UserError(
                f"config key {where}.keyframe: the keyframe network has the classes {theirs}, "
                f"and {dataset} has {', '.join(source.class_names)}; train it on this dataset, or set "
                f"{dataset.where}.label_map."
            )
    index = FrameIndex(reading.cached(source), step=options.frame_step or None)
    clips = data.Clips(index, max(options.intervals), labelled_only=truth)
    if clips.skipped:
        log.info(
            "%d of %d %sframes have no %d frames before them and are skipped, such as %s",
            len(clips.skipped), len(clips.skipped) + len(clips), "labelled " if truth else "", clips.before,
            clips.skipped[0],
        )  # fmt: skip
    return clips


def make_step(
    options: Options, module: Any, update: Any, normalisation: str, context: Context, bucket: data.Bucket
) -> Step:
    """Builds the step for one bucket; see `make_clip_step`."""
    mean, std = augment.normalisation(normalisation)
    clips = options.clips
    teacher = any("teacher" in losses.targets_of(losses.LOSSES[term.name]) for term in options.loss.values())

    def prepare(batch):
        return augment.augment_batch(
            batch, context.seed, bucket.crop, mean, std, plain=clips.labels == "teacher", **options.augmentation
        )

    return make_clip_step(
        module,
        loss_terms(options.loss, OUTPUTS),
        update,
        prepare,
        gradient_steps=clips.gradient_steps,
        labels=clips.labels,
        teacher=teacher,
        train_scale=options.keyframe.train_scale,
    )


def make_score(
    options: Options, held_out: data.Clips | None, module: Any, normalisation: str, keyframe: Any, mesh: Mesh
) -> Callable[[Any], Mapping[str, float]] | None:
    """Builds state -> scores of the longest interval on the clips held out; returns None without them, or eval_*."""
    if held_out is None or options.plan.evaluate is None:
        return None
    scorer = ClipScorer(
        clip_class_ids(module, normalisation),
        held_out,
        num_classes=module.propagation.num_classes,
        mesh=mesh,
        batch_size=options.plan.batch_size,
        limit=options.eval_limit,
    )
    frozen = parallel.replicate(keyframe, mesh)

    def score(state: Any) -> dict[str, float]:
        matrices = by_distance(scorer(with_keyframe(state.best_variables, frozen)))
        return {f"{name}_miou": value for name, value in interval_scores(matrices, len(matrices)).items()}

    return score


STAGE = Stage(read, run, inputs, check, extends=True)
