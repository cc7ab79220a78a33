"""Stage "recalibrate": a checkpoint whose batch norms have the statistics of the whole training set.

Source: Ladder-style DenseNets, section 5.1: batchnorm statistics are recomputed after the training, as exact averages
over the training set. The paper says no more; what is a guess here is marked in `Options`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import augment, data, models, parallel
from segjax.data.every_record import Rows, every_crop, every_image, full_rows
from segjax.errors import UserError
from segjax.files import config_hash, plain
from segjax.inference.network import Network, compute_dtype, find_run, open_network
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.extra_data import open_extras, read_extras
from segjax.stages.preview import image_network
from segjax.stages.run_plan import CropOptions, read_crop_options
from segjax.stages.stage import Context, Preview, Stage
from segjax.training.checkpoints import Checkpoints
from segjax.training.recalibration import Population, changes, make_measurement
from segjax.typing import Array, Batch
from segjax.weights.fingerprints import fingerprint

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The section of a stage "recalibrate".

    checkpoint: name of a stage of this run, or a folder.
    split: whose images are measured.
    extra: section of the training, whose further data are measured too, each image once.
    batch_size: images of a batch. Norms use the statistics of the batch, as in training (a guess; the paper does not
        say), so the larger, the better; 16 is the batch of the paper's training.
    crop: section {size, scale_range} as in training: one random crop of each image. {} = whole images (a guess).
    augment: section of the training for these crops. {} = mirrored at random.
    limit: number of images, spread evenly; 0 = all.
    save_batches: batches after which the sums are saved; a killed stage resumes there.
    mesh: axis -> number of devices.
    dtype: of the computation.
    loader: how images are read, see `data.Reading`.
    dataset: None = `config.dataset`.
    """

    checkpoint: str
    split: str = "train"
    extra: Any = ()
    batch_size: int = 16
    crop: Any = dataclasses.field(default_factory=dict)
    augment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limit: int = 0
    save_batches: int = 20
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    dtype: str = "auto"
    loader: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dataset: Dataset | None = None


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys, wrong numbers, and augment without crop."""
    rest = {key: value for key, value in settings.items() if key not in ("kind", "dataset")}
    options = Options(**options_of(rest, Options, where=where), dataset=read_own_dataset(settings, where))
    options = dataclasses.replace(options, extra=read_extras(settings.get("extra", {}), f"{where}.extra"))
    check_keys(options.mesh, ("data", "space"), where=f"{where}.mesh")
    check_numbers(settings, ("batch_size", "save_batches"), where=where, low=1)
    check_numbers(settings, ("limit",), where=where, low=0)
    compute_dtype(options.dtype)
    data.Reading(**options_of(options.loader, data.Reading, where=f"{where}.loader"))
    options_of(options.augment, augment.augment_batch, where=f"{where}.augment")
    if options.augment and not options.crop:
        raise UserError(
            f"config key {where}.augment changes crops, but whole images are measured; add {where}.crop, such as "
            "dict(size=(448, 448), scale_range=(0.5, 2.0))."
        )
    if options.crop:
        check_keys(options.crop, ("size", "scale_range"), where=f"{where}.crop", required=("size",))
        return dataclasses.replace(options, crop=read_crop_options(options.crop, f"{where}.crop"))
    return options


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return {"checkpoint": options.checkpoint, **{f"{e.where.partition('.')[2]}.stage": e.stage for e in options.extra}}


def check(options: Options, preview: Preview) -> None:
    """Raises UserError for a split without images, and a network without batch norm; see `Stage.check`."""
    _, variables, _ = image_network(preview.spec_of, options.checkpoint, f"{preview.name}.checkpoint")
    _check_norms(variables, options, preview.name)
    dataset = options.dataset or preview.dataset
    if dataset.folder is None or dataset.folder.is_dir():  # else an earlier stage will write it
        _open(options, dataset, preview.name)


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes <stage>/checkpoints: the evaluated variables of the checkpoint with other batch statistics.

    Those are the averaged variables, if the training had an average. Returns the report.

    Raises UserError for a checkpoint or images that cannot be read, and statistics that are not finite.
    """
    mesh, name = parallel.make_mesh(options.mesh), context.name
    dataset = options.dataset or context.dataset
    source, _ = open_extras(options.extra, _open(options, dataset, name), context, dataset)
    network = open_network(find_run(options.checkpoint, context.workdir), dtype=options.dtype, resize=dataset.resize)
    _check_norms(network.variables, options, name)
    views = _views(options, network, source, mesh, context.seed)
    identity = config_hash(
        plain({key: value for key, value in context.settings.items() if key not in ("save_batches", "loader", "mesh")}),
        [int(fingerprint(network.variables)), context.seed, list(source.names), views.rows.records.shape],
    )
    # a module without rematerialisation: a block that is written out for the backward pass calls no batch norm; and
    # without groups of a training's batch, which this batch has not
    options_ = {**network.spec["options"], "remat": False}
    options_ |= {"bn_groups": 1} if "bn_groups" in options_ else {}
    module = models.from_spec({**network.spec, "options": options_})
    variables = parallel.replicate(network.variables, mesh)
    measure = make_measurement(module, views.prepare, mesh, rows=views.rows.records.shape[1])
    begin, sums = time.perf_counter(), context.folder / "moments.npz"
    population, measured = _measure(measure, variables, views, sums, identity, save_batches=options.save_batches)
    seconds = time.perf_counter() - begin
    old = jax.device_get(network.variables["batch_stats"])
    statistics, idle = population.statistics(old)
    _check_finite(statistics, options, name)
    moved = changes(old, statistics)
    log.info("recalibrated: means moved by %.3f deviations, deviations became %.3f of the old", *moved.values())
    if idle:
        log.warning("%d norms keep their statistics; no two values reached them: %s", len(idle), ", ".join(idle[:5]))
    variables = {**variables, "batch_stats": parallel.replicate(statistics, mesh)}
    meta = {key: value for key, value in network.info.items() if key != "step"}
    with Checkpoints(context.folder / "checkpoints", keep=1) as checkpoints:
        checkpoints.save_variables(variables, mesh, step=network.step, meta={**meta, "recalibrated": context.settings})
    parallel.sync(f"checkpoint of {name}")
    if jax.process_index() == 0:
        sums.unlink(missing_ok=True)
    return {
        "images": int(views.rows.counted.sum()),
        "batches": len(views.rows.records),
        "norms": len(jax.tree.leaves(network.variables["batch_stats"])) // 2,
        "norms_kept": idle,
        **moved,
        "images_per_second": round(measured / seconds, 2) if measured else None,
        "checkpoint_step": network.step,
    }


@dataclasses.dataclass(frozen=True)
class _Views:
    """What is measured.

    rows: records of each batch.
    read: rows -> batches of this process.
    prepare: batch -> images (b, h, w, 3) float32, normalised.
    to_devices: batch of this process -> on the mesh.
    """

    rows: Rows
    read: Callable[[Rows], Iterator[Batch]]
    prepare: Callable[[Batch], Array]
    to_devices: Callable[[Batch], Batch]


def _views(options: Options, network: Network, source: data.Source, mesh: Mesh, seed: int) -> _Views:
    """Returns the views of all images: whole ones, or one crop of each."""
    mean, std = augment.normalisation(network.normalisation)
    part, parts = parallel.batch_part(mesh)
    reading = data.Reading(**options.loader)
    to_devices = functools.partial(parallel.shard_batch, mesh=mesh)
    crops = isinstance(options.crop, CropOptions)  # they have one size, whatever the sizes of the images
    sizes = np.broadcast_to(options.crop.size, (len(source), 2)) if crops else source.sizes
    rows = full_rows(sizes, options.batch_size, limit=options.limit or None)
    fill = -rows.records.shape[1] % parallel.axis_size(mesh, "data")
    shared = dict(process_index=part, process_count=parts, fill=fill)
    if not crops:

        def normalised(batch: Batch) -> Array:
            return augment.normalise(batch["image"], mean=mean, std=std)

        return _Views(rows, lambda rows: every_image(source, rows, reading, **shared), normalised, to_devices)

    crop = options.crop
    samples = data.ImageCrops(source, crop.scale_range, [(0, len(source))])

    def augmented(batch: Batch) -> Array:
        return augment.augment_batch(batch, seed=seed, crop=crop.size, mean=mean, std=std, **options.augment)[0]

    return _Views(
        rows, lambda rows: every_crop(samples, crop.size, rows, reading, seed=seed, **shared), augmented, to_devices
    )


def _measure(
    measure: Callable, variables: Any, views: _Views, place: Path, identity: str, *, save_batches: int
) -> tuple[Population, int]:
    """Returns (population of all images, number of images measured in this call).

    It resumes from the file `place`, which it replaces after every `save_batches` batches.
    """
    population, done, rows = Population(), 0, views.rows
    try:
        found, note = Population.load(place)
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning("%s; all images are measured again", error)
    else:
        if note["identity"] == identity:
            population, done = found, note["batches"]
            log.info("resuming: %d of %d batches are done (%s)", done, len(rows.records), place)
        else:
            log.info("%s is of other settings or variables, and is replaced", place)
    rest = Rows(*(array[done:] for array in dataclasses.astuple(rows)))
    begin, running = time.perf_counter(), None

    def finish(number: int, measured: Any) -> None:
        population.add(measured, rows.counted[number])
        if (number + 1) % save_batches and number + 1 < len(rows.records):
            return
        if jax.process_index() == 0:
            population.save(place, identity=identity, batches=number + 1)
        rate = rows.counted[done : number + 1].sum() / (time.perf_counter() - begin)
        log.info("%d of %d batches, %.1f images/s", number + 1, len(rows.records), rate)

    for number, batch in enumerate(views.read(rest), start=done):
        started = number, measure(variables, views.to_devices(batch))  # runs while the batch before is added up
        if running:
            finish(*running)
        running = started
    if running:
        finish(*running)
    return population, int(rows.counted[done:].sum())


def _open(options: Options, dataset: Dataset, name: str) -> data.Source:
    """Opens the labelled images of the split. Raises UserError if there are none."""
    if not dataset.splits.get(options.split, options.split):
        raise UserError(f"config key {name}.split={options.split!r}: {dataset.where}.{options.split} names no split.")
    source = dataset.open(options.split)
    if not len(source):
        raise UserError(
            f"config key {name}.split={options.split!r} of {dataset.name} has no labelled image to recalibrate on; "
            "name another split."
        )
    return source


def _check_norms(variables: Any, options: Options, name: str) -> None:
    if not variables.get("batch_stats"):
        raise UserError(
            f"config key {name}.checkpoint={options.checkpoint!r} is a network without batch norm, so there is nothing "
            "to recalibrate; leave the stage out."
        )


def _check_finite(statistics: Any, options: Options, name: str) -> None:
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(statistics)):
        raise UserError(
            f"stage {name}: the network in {options.checkpoint} gives values that are not finite, so it has no "
            "statistics; name a checkpoint of a training that has not diverged."
        )


STAGE = Stage(read, run, inputs, again="when_stale", check=check, network=lambda options: options.checkpoint)
