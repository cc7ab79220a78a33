"""The step of the stage "train_video", built from its options: for a run, and for compiling before there is data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax import augment, data, models
from segjax.costs.video import triple_flops
from segjax.data.plans import make_plan
from segjax.errors import UserError, did_you_mean
from segjax.stages.assumed import Assumed, Program
from segjax.stages.run_plan import make_run_plan
from segjax.stages.step_program import largest_bucket, replicated_shapes, step_program
from segjax.stages.training_options import TrainingOptions, make_optimization
from segjax.stages.video_data import FlowOptions, VideoDataOptions
from segjax.training.placement import abstract_state
from segjax.training.run import RunPlan
from segjax.training.start import Init, abstract_first_variables, model_spec
from segjax.training.step import Step
from segjax.training.update import make_update
from segjax.training.video_step import Features, make_video_step

UNIT = "triples"


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """A fixed network whose maps the perceptual and style losses compare.

    model, model_options: name in `segjax.models`, and its options.
    init: its weights.
    layers: names of the maps.
    normalisation: of its images, key of `augment.NORMALISATION`.
    """

    model: str
    model_options: Mapping[str, Any]
    init: Init
    layers: tuple[str, ...]
    normalisation: str


@dataclasses.dataclass(frozen=True)
class Options(TrainingOptions):
    """The section of a stage "train_video".

    video, flow: frames, the flow between them, and how they become samples.
    loss: name in `video_step.TERMS` -> weight.
    features: for the terms "perceptual" and "style", None without these.
    sheet_rows: frames in the picture at the end.
    """

    video: VideoDataOptions
    flow: FlowOptions
    loss: Mapping[str, float]
    features: FeatureOptions | None
    sheet_rows: int


def frames_of(options: Options) -> int:
    """Returns the number of a triple's frames that the network sees."""
    return models.VIDEO_MODELS[options.model].keywords["frames"]


def make_network(options: Options, statistics: Mapping[str, Sequence[float]]) -> tuple[dict[str, Any], Any]:
    """Returns (spec, network); statistics: "mean" and "std" of the flow, {} for the network's own."""
    model_options = {**options.model_options, **{f"flow_{name}": value for name, value in statistics.items()}}
    spec = model_spec(options.model, model_options, num_classes=0, dtype=options.dtype, remat=options.remat)
    return spec, models.from_spec(spec)


def make_training(
    options: Options, model: Any, params: Any, plan: RunPlan, features: Features | None
) -> tuple[Any, Callable, Callable[[data.Bucket], Step]]:
    """Returns (optimizer, schedule, bucket -> step); all buckets have the same step.

    options: of the stage.
    model: the network.
    params: nested dict of its parameters, or of their shapes.
    plan: of the run.
    features: see `make_features`, None without.

    Raises UserError as `make_optimization` does.
    """
    optimizer, schedule = make_optimization(options.optimizer, params, plan)
    update = make_update(optimizer, schedule, ema_decay=options.ema_decay)
    step = make_video_step(model.apply, update, frames=frames_of(options), weights=options.loss, features=features)
    return optimizer, schedule, lambda bucket: step


def make_features(options: FeatureOptions, where: str) -> tuple[Any, Features]:
    """Returns (network, function (variables, frames) -> maps by name).

    where: config key of the options.
    Raises UserError for a map that the network does not have.
    """
    # any number of classes does: the maps to compare come before the classifier
    spec = model_spec(options.model, options.model_options, num_classes=2, dtype="float32", remat=False)
    model = models.from_spec(spec)
    mean, std = augment.normalisation(options.normalisation)
    images = jnp.zeros((1, 64, 64, 3))
    known = jax.eval_shape(lambda v: model.apply(v, images, train=False).features, abstract_first_variables(model))
    for layer in options.layers:
        if layer not in known:
            raise UserError(f"config key {where}.layers: {spec['name']} has no {layer!r}.{did_you_mean(layer, known)}")

    def features(variables, frames):
        maps = model.apply(variables, augment.normalise(frames, mean=mean, std=std), train=False).features
        return {layer: maps[layer] for layer in options.layers}

    return model, features


def useful_flops(spec: Mapping[str, Any], bucket: data.Bucket) -> float:
    """Returns the FLOPs that the network needs for one triple of a bucket; spec: of the network.

    Those of the fixed network of perceptual and style losses are not counted.
    """
    return triple_flops(spec, bucket.crop)


def program(options: Options, assumed: Assumed) -> Program:
    """Returns the step on triples of frames. See `Stage.program`."""
    mesh, statistics = assumed.mesh, {}
    if options.flow.mean:  # else any statistics do: they are numbers in the step
        statistics = {"mean": options.flow.mean, "std": options.flow.std}
    spec, model = make_network(options, statistics)
    variables = abstract_first_variables(model, models.example_inputs(spec, model))
    plan = make_run_plan(options.plan, make_plan("uniform", {}, assumed.images, seed=assumed.seed), mesh)
    features, frozen = None, None
    if options.features is not None:
        network, features = make_features(options.features, f"{options.plan.where}.features")
        frozen = replicated_shapes(abstract_first_variables(network), mesh)
    optimizer, _, step_of = make_training(options, model, variables["params"], plan, features)
    found = step_program(
        step_of,
        abstract_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0),
        data.TripletCrops(assumed.images, data.TripletSampling(None, frames_of(options))),
        largest_bucket(plan),
        mesh,
        frozen=frozen,
        multiple=options.plan.multiple(mesh),
        spec=spec,
        useful=functools.partial(useful_flops, spec),
        unit=UNIT,
        splits_height=False,
    )
    return dataclasses.replace(found, frames=3)
