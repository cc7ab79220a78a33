"""Random samples as a training sees them: the command `segjax browse`.

The samples are those of the run itself: its plan, reader and augmentation are opened as the stage "train" opens them.
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
from segjax.data.pipeline import draw_crop
from segjax.data.random import CROP, generator
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.media.writers import write_png
from segjax.stages import build, train
from segjax.stages.recipe import Context
from segjax.stages.run_plan import Timetable
from segjax.visualize.browse_sheet import Browsed, browse_sheet


@dataclasses.dataclass(frozen=True)
class Browsing:
    """What `browse` drew. heading: one line about the epoch. samples: in the order in which the training sees them."""

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
    """Draws the first samples of an epoch on a sheet.

    config: a recipe. stage: of kind "train", by default the first. epoch: counted from 1. count: samples. seed: by
    default the recipe's. workdir: of the run, where its propagated frames and centroids are.
    Raises UserError for settings, data or an epoch that the training would not have.
    """
    name = stage or _first_training(config)
    if name not in config["stages"]:
        raise UserError(f"--stage={name} is not a stage of this recipe.{did_you_mean(name, config['stages'])}")
    settings = config[name]
    choose({"train": 0}, settings.get("kind", ""), where=f"{name}.kind")
    dataset = settings.get("dataset") or config["dataset"]
    seed = settings.get("seed", config.get("seed", 0)) if seed is None else seed
    folder = Path(workdir).expanduser() if workdir else data.build.data_root() / "browse"
    context = Context(name, folder, folder / name, seed, dataset)
    mesh = parallel.make_mesh(plain(settings.get("mesh", {"data": -1})))
    _, source, _, table = train.open_training(settings, context, mesh)
    if not 1 <= epoch <= table.timeline.epochs:
        raise UserError(f"--epoch={epoch}: stage {name!r} has the epochs 1 to {table.timeline.epochs}")
    first = table.timeline.epoch_start(epoch - 1)
    bucket = table.timeline.at(first).bucket
    samples = list(itertools.islice(_samples(settings, source, table, mesh, seed, first), count))
    low, high = table.scale_range
    heading = (
        f"{dataset['name']}, epoch {epoch} of {table.timeline.epochs}, seed {seed}: "
        f"crops of {bucket.crop[0]}x{bucket.crop[1]} (h x w), {bucket.batch} to a batch, "
        f"enlarged by {low:g} to {high:g}"
    )
    picture = browse_sheet(samples, source.class_names, source.palette, heading=heading)
    return Browsing(heading, samples, write_png(output, picture))


def _samples(settings, source, table: Timetable, mesh, seed: int, step: int) -> Iterator[Browsed]:
    """The samples from a step on, to the end of its epoch."""
    epoch, _, bucket = table.timeline.at(step)
    plan = table.plan.build(epoch)
    look = _looker(settings, bucket.crop, seed)
    window = data.window_size(bucket.crop, table.scale_range, source.sizes)
    for number, batch in train.open_batches(settings, source, table, mesh, step):
        if number >= table.timeline.epoch_start(epoch + 1):
            return
        images, labels, mirrored = map(np.asarray, look(batch))
        for row, (record, index) in enumerate(zip(batch["record"].tolist(), batch["index"].tolist())):
            place = None if plan.places[index, 0] < 0 else tuple(map(int, plan.places[index]))
            rows, columns = draw_crop(
                tuple(map(int, source.sizes[record])),
                crop=bucket.crop,
                window=window,
                scale_range=table.scale_range,
                centroid=place,
                rng=generator(table.plan.seed, CROP, epoch, index),
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
                centred_on=source.class_names[plan.classes[index]] if plan.classes[index] >= 0 else "",
                mirrored=bool(mirrored[row]),
                image=images[row],
                label=labels[row],
            )


def _looker(settings: Mapping[str, Any], crop: tuple[int, int], seed: int):
    """batch -> (images uint8 (b, h, w, 3), labels (b, h, w), mirrored (b,)), by the training's own augmentation."""
    mean, std = build.normalisation(settings.get("normalisation", "imagenet"))
    augmentation = train.make_augment(settings, crop=crop, seed=seed)

    @jax.jit
    def look(batch):
        images, labels = augmentation(batch)
        # Labels that count the columns come out in falling order where the sample was mirrored.
        width = batch["label"].shape[2]
        columns = jnp.broadcast_to((jnp.arange(width) * 255 // width).astype(jnp.uint8), batch["label"].shape)
        counted = augmentation({**batch, "label": columns})[1]
        inside = counted < 255
        signs = jnp.sign(jnp.diff(counted, axis=2)) * (inside[:, :, 1:] & inside[:, :, :-1])
        return augment.denormalise(images, mean=mean, std=std), labels, signs.sum(axis=(1, 2)) < 0

    return look


def dataset_recipe(
    name: str, *, split: str = "train", options: Mapping[str, Any] | None = None, data_dir: str = ""
) -> dict[str, Any]:
    """A recipe to look at a data set with: half of it uniform by class, enlarged by 0.5 to 2, mirrored.

    The crop is half of the first image's height, and as wide as high.
    """
    dataset = dict(name=name, options=dict(options or {}), train=split, data_dir=data_dir)
    side = max(int(build.open_split(dataset, "train").sizes[0].min()) // 2, 16)
    stage = dict(
        kind="train",
        total_epochs=1,
        batch_size=1,
        crop=dict(size=(side, side), scale_range=(0.5, 2.0)),
        sampler=dict(kind="class_uniform", tile=0),
        augment=dict(flip=True),
        mesh=dict(data=1),
    )
    return dict(seed=0, stages=("train",), dataset=dataset, train=stage)


def _first_training(config: Mapping[str, Any]) -> str:
    stages: Sequence[str] = config.get("stages", ())
    for name in stages:
        if name in config and config[name].get("kind") == "train":
            return name
    raise UserError(f"this recipe has no stage of kind 'train'; its stages are {', '.join(stages) or 'none'}")
