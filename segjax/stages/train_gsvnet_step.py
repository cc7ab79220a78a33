"""The step of the stage "train_gsvnet", built from its options: for a run, and for compiling before there is data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from segjax import augment, data, losses, models
from segjax.costs.video import snippet_flops
from segjax.data.plans import make_plan
from segjax.errors import UserError
from segjax.models.video_segmenter import VideoSegmenter
from segjax.stages.assumed import Assumed, Program
from segjax.stages.preview import image_network
from segjax.stages.run_plan import make_run_plan
from segjax.stages.snippet_data import SnippetOptions
from segjax.stages.step_program import largest_bucket, replicated_shapes, step_program
from segjax.stages.training_options import TrainingOptions, make_optimization
from segjax.training.placement import abstract_state
from segjax.training.run import RunPlan
from segjax.training.snippet_step import fixed_frames, make_snippet_step
from segjax.training.start import abstract_first_variables, model_spec
from segjax.training.step import Step
from segjax.training.terms import TermOptions, loss_terms
from segjax.training.update import make_update

OUTPUTS = {"logits": 1.0}  # of a propagation network, with the weight of a term on "heads"
UNIT = "snippets"


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


@dataclasses.dataclass(frozen=True)
class Options(TrainingOptions):
    """The section of a stage "train_gsvnet".

    keyframe: see `KeyframeOptions`.
    snippets: see `SnippetOptions`.
    augmentation: keyword-only options of `augment.augment_batch`.
    loss: terms by name.
    """

    keyframe: KeyframeOptions
    snippets: SnippetOptions
    augmentation: Mapping[str, Any]
    loss: Mapping[str, TermOptions]

    @property
    def teacher(self) -> bool:
        """Whether a term compares with the keyframe network's logits of the last frame."""
        return any("teacher" in losses.targets_of(losses.LOSSES[term.name]) for term in self.loss.values())


def make_network(options: Options, keyframe: Mapping[str, Any]) -> tuple[dict[str, Any], VideoSegmenter]:
    """Returns (spec, network) of both networks together; keyframe: spec of that which labels keyframes."""
    spec = model_spec(
        options.model,
        options.model_options,
        num_classes=keyframe["num_classes"],
        dtype=options.dtype,
        remat=options.remat,
    )
    spec["keyframe"] = {"spec": keyframe, "scale": options.keyframe.scale}
    return spec, models.from_spec(spec)


def make_training(
    options: Options, module: VideoSegmenter, params: Any, plan: RunPlan, normalisation: str, seed: int
) -> tuple[Any, Callable, Callable[[data.Bucket], Step]]:
    """Returns (optimizer, schedule, bucket -> step).

    params: nested dict of the propagation network's parameters, or of their shapes.
    plan: of the run.
    options, module, normalisation, seed: see `make_step`.

    Raises UserError as `make_optimization` does.
    """
    optimizer, schedule = make_optimization(options.optimizer, params, plan)
    update = make_update(optimizer, schedule, ema_decay=options.ema_decay)
    return optimizer, schedule, functools.partial(make_step, options, module, update, normalisation, seed)


def make_step(
    options: Options, module: VideoSegmenter, update: Any, normalisation: str, seed: int, bucket: data.Bucket
) -> Step:
    """Builds the step for one bucket; see `make_snippet_step`.

    options: of the stage.
    module: both networks.
    update: see `make_update`.
    normalisation: of the keyframe network's images, key of `augment.NORMALISATION`.
    seed: of augmentation.
    bucket: shape of the batches.
    """
    mean, std = augment.normalisation(normalisation)
    snippets = options.snippets

    def prepare(batch):
        return augment.augment_batch(
            batch, seed, bucket.crop, mean, std, plain=snippets.labels == "teacher", **options.augmentation
        )

    return make_snippet_step(
        module,
        loss_terms(options.loss, OUTPUTS),
        update,
        prepare,
        gradient_steps=snippets.gradient_steps,
        labels=snippets.labels,
        teacher=options.teacher,
        train_scale=options.keyframe.train_scale,
    )


def useful_flops(options: Options, spec: Mapping[str, Any], bucket: data.Bucket) -> float:
    """Returns the FLOPs that both networks need for one snippet of a bucket; spec: see `make_network`."""
    fixed = fixed_frames(bucket.frames, options.snippets.gradient_steps)
    labels_last = options.teacher or options.snippets.labels == "teacher"
    scales = (options.keyframe.train_scale, *((1.0,) if labels_last else ()))
    return snippet_flops(spec, bucket.crop, scales=scales, fixed=fixed, trained=bucket.frames - 1 - fixed)


def program(options: Options, assumed: Assumed) -> Program:
    """Returns the step of the longest snippets. See `Stage.program`.

    The keyframe network is that of an earlier stage, or of a checkpoint that exists, of which the description is read.
    Raises UserError for one that labels no image, and for one's own frames without their size.
    """
    mesh, images, snippets = assumed.mesh, assumed.images, options.snippets
    if snippets.frames and not assumed.sized:
        raise UserError(
            f"the size of the frames of {options.plan.where}.frames={snippets.frames!r} is not known; give "
            "--size=HEIGHTxWIDTH."
        )
    checkpoint = options.keyframe.checkpoint
    image_network(assumed.spec_of, checkpoint, f"{options.plan.where}.keyframe.checkpoint")
    spec, module = make_network(options, {"num_classes": images.num_classes, **assumed.spec_of(checkpoint)})
    variables = abstract_first_variables(module.propagation, models.example_inputs(spec, module.propagation))
    epochs = make_plan("uniform", {}, images, seed=assumed.seed)
    plan = make_run_plan(options.plan, epochs, mesh, snippets.frames_of)
    # any normalisation does: it is a multiplication and an addition
    optimizer, _, step_of = make_training(options, module, variables["params"], plan, "imagenet", assumed.seed)
    return step_program(
        step_of,
        abstract_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0),
        data.SnippetCrops(images, snippets.scales),
        # a run may reach the longest interval later than the assumed number of frames has it
        largest_bucket(plan)._replace(frames=max(snippets.intervals) + 1),
        mesh,
        frozen=replicated_shapes(abstract_first_variables(module.keyframe), mesh),
        multiple=options.plan.multiple(mesh),
        spec=spec,
        useful=functools.partial(useful_flops, options, spec),
        unit=UNIT,
        splits_height=False,
    )
