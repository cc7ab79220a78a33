"""The step of the stage "train", built from its options: for a run, and for compiling before there is data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from segjax import augment, data, losses, models, parallel
from segjax.costs.program import network_flops
from segjax.data.plans import make_plan
from segjax.stages.assumed import Assumed, AssumedImages, Program
from segjax.stages.extra_data import ExtraOptions
from segjax.stages.part_targets import online_thresholds, part_names
from segjax.stages.pseudo_options import TOP_K
from segjax.stages.run_plan import make_run_plan
from segjax.stages.sampler import SamplerOptions
from segjax.stages.step_program import largest_bucket, step_program
from segjax.stages.training_options import TrainingOptions, make_optimization
from segjax.training.online import label_online
from segjax.training.part_losses import number_of_part
from segjax.training.placement import abstract_state
from segjax.training.run import RunPlan
from segjax.training.start import abstract_first_variables, model_spec, with_source_options
from segjax.training.step import Step, make_train_step
from segjax.training.terms import TermOptions, loss_terms
from segjax.training.update import make_update
from segjax.typing import Array, Batch, Targets


@dataclasses.dataclass(frozen=True)
class Options(TrainingOptions):
    """The section of a stage "train".

    extra: training data beside the split.
    sampler: of records and places.
    augmentation: keyword-only options of `augment.augment_batch`.
    normalisation: key of `augment.NORMALISATION`.
    loss: terms by name.
    eval_classes: which classes are compared on the validation split, "all" or its "own".
    """

    extra: tuple[ExtraOptions, ...]
    sampler: SamplerOptions
    augmentation: Mapping[str, Any]
    normalisation: str
    loss: Mapping[str, TermOptions]
    eval_classes: str


def make_network(options: Options, num_classes: int) -> tuple[dict[str, Any], Any]:
    """Returns (spec, network). Raises UserError as `with_source_options` does."""
    spec = model_spec(
        options.model, options.model_options, num_classes=num_classes, dtype=options.dtype, remat=options.remat
    )
    spec = with_source_options(spec, options.init)
    return spec, models.from_spec(spec)


def make_training(
    options: Options,
    model: Any,
    params: Any,
    plan: RunPlan,
    mesh: Mesh,
    seed: int,
    parts: Mapping[str, tuple[int, int]],
    online: Mapping[int, Sequence[float]],
) -> tuple[Any, Callable, Callable[[data.Bucket], Step]]:
    """Returns (optimizer, schedule, bucket -> step).

    params: nested dict of the network's parameters, or of their shapes.
    plan: of the run.
    options, model, mesh, seed, parts, online: see `make_step`.

    Raises UserError as `make_optimization` does.
    """
    optimizer, schedule = make_optimization(options.optimizer, params, plan)
    update = make_update(optimizer, schedule, ema_decay=options.ema_decay)
    return optimizer, schedule, functools.partial(make_step, options, model, update, mesh, seed, parts, online)


def program(options: Options, assumed: Assumed) -> Program:
    """Returns the step of the batch with the most pixels, of a crop schedule. See `Stage.program`.

    Parts of the training data beside the real images count as one record each, which changes no shape.
    """
    mesh, images = assumed.mesh, with_soft_labels(assumed.images, options.loss)
    samples = data.ImageCrops(images, options.plan.crop.scale_range)
    plan = make_run_plan(options.plan, make_plan("uniform", {}, images, seed=assumed.seed), mesh)
    spec, model = make_network(options, images.num_classes)
    variables = abstract_first_variables(model)
    parts = {name: (n, n + 1) for n, name in enumerate(part_names(options.extra))}
    online = online_thresholds(options.extra, images.class_names)
    optimizer, _, step_of = make_training(options, model, variables["params"], plan, mesh, assumed.seed, parts, online)
    state = abstract_state(variables, optimizer, mesh, param_rules=options.param_rules, average=options.ema_decay > 0)
    return step_program(
        step_of,
        state,
        samples,
        largest_bucket(plan),
        mesh,
        multiple=options.plan.multiple(mesh),
        spec=spec,
        useful=functools.partial(useful_flops, spec),
    )


def useful_flops(spec: Mapping[str, Any], bucket: data.Bucket) -> float:
    """Returns the FLOPs that the network needs for one image of a bucket; spec: of the network."""
    return network_flops(spec, bucket.crop, trains=True)


def with_soft_labels(images: AssumedImages, loss: Mapping[str, TermOptions]) -> AssumedImages:
    """Returns the images with the soft labels that a loss compares with, as many classes as are stored by default."""
    soft = any("soft_ids" in losses.targets_of(losses.LOSSES[term.name]) for term in loss.values())
    return dataclasses.replace(images, top_k=TOP_K) if soft else images


def make_step(
    options: Options,
    model: Any,
    update: Any,
    mesh: Mesh,
    seed: int,
    parts: Mapping[str, tuple[int, int]],
    online: Mapping[int, Sequence[float]],
    bucket: data.Bucket,
) -> Step:
    """Builds the step for one bucket.

    options: of the stage.
    model: the network.
    update: see `make_update`.
    mesh: of devices.
    seed: of augmentation and dropout.
    parts: name -> (first, end) record, see `parts_of`.
    online: number of a part that the network labels during training -> thresholds by class, see `label_online`.
    bucket: shape of the batches.
    """
    augmentation = make_augmentation(options, crop=bucket.crop, seed=seed, plain=bool(online))

    def prepare(batch: Batch, frozen: Any) -> tuple[Array, Targets]:
        images, targets = augmentation(batch)
        return images, {**targets, "part": number_of_part(batch["record"], parts)}

    steps = options.plan.accumulate_steps
    completing = {"complete": label_online(model.apply, online, micro_batches=steps)} if online else {}
    return make_train_step(
        model.apply,
        loss_terms(options.loss, model.loss_weights, loss_names=getattr(model, "loss_names", {}), parts=tuple(parts)),
        update,
        prepare,
        seed=seed,
        accumulate_steps=steps,
        constrain=parallel.constrain_images(mesh),
        parts=tuple(parts),
        recompute_loss="loss" in getattr(model, "recomputed", ()),
        **completing,
    )


def make_augmentation(
    options: Options, *, crop: tuple[int, int], seed: int, plain: bool = False
) -> Callable[[Batch], tuple[Array, Targets]]:
    """Builds uint8 batch -> (images, targets), with the stage's augmentation; see `augment.augment_batch`."""
    mean, std = augment.normalisation(options.normalisation)
    return functools.partial(
        augment.augment_batch, seed=seed, crop=crop, mean=mean, std=std, plain=plain, **options.augmentation
    )
