"""The samples of a training run, for the command `segjax browse`.

They are those of the run itself: plan, reader and augmentation are opened by the code of the stage "train".
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import augment, data, parallel
from segjax.data.builds import data_root
from segjax.data.geometry import draw_crop
from segjax.data.random import CROP, generator
from segjax.errors import UserError, choose, did_you_mean
from segjax.media.writers import write_png
from segjax.stages import train, train_step
from segjax.stages.dataset import read_dataset, with_folders
from segjax.stages.recipe import run_dataset, written
from segjax.stages.stage import Context
from segjax.training.run import RunPlan
from segjax.visualize.browse_sheet import Browsed, browse_sheet


@dataclasses.dataclass(frozen=True)
class Browsing:
    """Result of `browse`.

    heading: one line about the epoch.
    samples: in the order of the training.
    path: of the picture.
    """

    heading: str
    samples: list[Browsed]
    path: Path


def browse(
    config: Mapping[str, Any],
    output: str | Path,
    *,
    stage: str = "",
    epoch: int = 1,
    count: int = 6,
    seed: int | None = None,
    workdir: str | Path = "",
) -> Browsing:
    """Writes a picture with the first samples of an epoch.

    config: a recipe.
    output: file of the picture.
    stage: of kind "train", by default the first.
    epoch: counted from 1.
    count: number of samples.
    seed: by default the recipe's.
    workdir: of the run, with its propagated frames and centroids.

    Raises UserError for a stage that does not exist or is no training, an epoch beyond its end, and for settings and
    data with which the training would fail.
    """
    name = stage or _first_training(config)
    if name not in config["stages"]:
        raise UserError(f"--stage={name} is not a stage of this recipe.{did_you_mean(name, config['stages'])}")
    section = config[name]
    choose({"train": 0}, section.get("kind", ""), where=f"{name}.kind")
    settings = {key: value for key, value in section.items() if key != "seed"}
    folder = Path(workdir).expanduser() if workdir else data_root() / "browse"
    options = with_folders(train.STAGE.read(settings, name), written(config, name, folder))
    dataset = run_dataset(config, name, folder)
    seed = section.get("seed", config.get("seed", 0)) if seed is None else seed
    context = Context(name, folder, folder / name, seed, dataset)
    source, samples, plan = _open(options, context)
    timeline = plan.timeline
    if not 1 <= epoch <= timeline.epochs:
        raise UserError(f"--epoch={epoch}: stage {name!r} has the epochs 1 to {timeline.epochs}")
    first = timeline.epoch_start(epoch - 1)
    bucket = timeline.at(first).bucket
    shown = list(itertools.islice(_shown(options, samples, plan, seed, first), count))
    low, high = options.plan.crop.scale_range
    heading = (
        f"{options.dataset or dataset}, epoch {epoch} of {timeline.epochs}, seed {seed}: "
        f"crops of {bucket.crop[0]}x{bucket.crop[1]} (h x w), {bucket.batch} to a batch, "
        f"enlarged by {low:g} to {high:g}"
    )
    picture = browse_sheet(shown, source.class_names, source.palette, heading=heading)
    return Browsing(heading, shown, write_png(output, picture))


def _open(options: train.Options, context: Context) -> tuple[data.Source, data.ImageCrops, RunPlan]:
    real, samples, _, plan = train.open_training(options, context, parallel.make_mesh(options.mesh))
    return real, samples, plan


def _shown(options: train.Options, samples: data.ImageCrops, plan: RunPlan, seed: int, step: int) -> Iterator[Browsed]:
    """Yields the samples from a step to the end of its epoch."""
    source, scale_range = samples.source, samples.scale_range
    epoch, _, bucket = plan.timeline.at(step)
    shown = plan.epochs.build(epoch)
    look = _looker(options, bucket.crop, seed)
    window = data.window_size(bucket.crop, scale_range, source.sizes)
    for number, batch in data.train_batches(samples, plan.epochs, plan.timeline, options.reading, step):
        if number >= plan.timeline.epoch_start(epoch + 1):
            return
        images, labels, mirrored = map(np.asarray, look(batch))
        for row, (record, index) in enumerate(zip(batch["record"].tolist(), batch["index"].tolist())):
            place = None if shown.places[index, 0] < 0 else tuple(map(int, shown.places[index]))
            # drawn again from the pipeline's generator: the batch does not contain the crop's box in the source image
            rows, columns = draw_crop(
                tuple(map(int, source.sizes[record])),
                crop=bucket.crop,
                window=window,
                scale_range=scale_range,
                centroid=place,
                rng=generator(plan.epochs.seed, CROP, epoch, index),
            )
            yield Browsed(
                name=source.names[record],
                source=source[record].image,
                box=(
                    rows.start + rows.low,
                    columns.start + columns.low,
                    rows.start + rows.high,
                    columns.start + columns.high,
                ),
                place=place,
                centred_on=source.class_names[shown.classes[index]] if shown.classes[index] >= 0 else "",
                mirrored=bool(mirrored[row]),
                image=images[row],
                label=labels[row],
            )


def _looker(options: train.Options, crop: tuple[int, int], seed: int):
    """Builds batch -> (images (b, h, w, 3) uint8, labels (b, h, w), mirrored (b,)) by the training's augmentation."""
    mean, std = augment.normalisation(options.normalisation)
    augmentation = train_step.make_augmentation(options, crop=crop, seed=seed)

    @jax.jit
    def look(batch):
        images, targets = augmentation(batch)
        # labels that count the columns come out in falling order if the sample was mirrored
        width = batch["label"].shape[2]
        columns = jnp.broadcast_to((jnp.arange(width) * 255 // width).astype(jnp.uint8), batch["label"].shape)
        counted = augmentation({**batch, "label": columns})[1]["labels"]
        inside = counted < 255
        signs = jnp.sign(jnp.diff(counted, axis=2)) * (inside[:, :, 1:] & inside[:, :, :-1])
        return augment.denormalise(images, mean=mean, std=std), targets["labels"], signs.sum(axis=(1, 2)) < 0

    return look


def dataset_recipe(
    name: str, *, split: str = "train", options: Mapping[str, Any] | None = None, data_dir: str = ""
) -> dict[str, Any]:
    """Returns a recipe for browsing a dataset: half of the samples uniform by class, enlarged by 0.5 to 2, mirrored.

    The crop is a square whose side is half of the first image's shorter side.

    name: of the dataset.
    split: of the dataset.
    options: of its builder.
    data_dir: folder of built datasets, "" for the default.

    Raises UserError as `open_source` does.
    """
    dataset = dict(name=name, options=dict(options or {}), train=split, data_dir=data_dir)
    side = max(int(read_dataset(dataset, "dataset").open("train").sizes[0].min()) // 2, 16)
    stage = dict(
        kind="train",
        total_epochs=1,
        batch_size=1,
        crop=dict(size=(side, side), scale_range=(0.5, 2.0)),
        sampler=dict(kind="class_uniform", tile=0),
        augment=dict(flip=True),
        mesh=dict(data=1),
        model=dict(name="fastscnn"),  # nothing is trained, but a stage of kind "train" requires these three
        loss=dict(main=dict(name="cross_entropy")),
        optimizer=dict(name="sgd", lr=0.0),
    )
    return dict(seed=0, stages=("train",), dataset=dataset, train=stage)


def _first_training(config: Mapping[str, Any]) -> str:
    stages: Sequence[str] = config.get("stages", ())
    for name in stages:
        if name in config and config[name].get("kind") == "train":
            return name
    raise UserError(f"this recipe has no stage of kind 'train'; its stages are {', '.join(stages) or 'none'}")
