"""Stage "pseudo_label": labels pools of images with a trained network and writes them as a dataset.

Source: Zhu et al., Improving Semantic Segmentation via Self-Training (v1), and CSST (v2), section 3.1.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import evaluation, inference
from segjax.data.derived import PSEUDO, PSEUDO_PROVENANCE, with_ignored
from segjax.data.record_shards import Examples, RecordShards
from segjax.data.referenced import REFERENCE
from segjax.data.threads import ordered_map
from segjax.errors import UserError, choose
from segjax.files import config_hash, plain
from segjax.inference.network import Network, compute_dtype, find_run, images_at_once, open_network
from segjax.media.writers import write_png
from segjax.pseudo import report as reports
from segjax.pseudo.labels import Group, Labelled, Labeller, Place, encode, features
from segjax.pseudo.pools import FilePool, Pool, SplitPool, folder_of
from segjax.pseudo.sheets import pseudo_sheet
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.config.thresholds import Threshold, check_threshold, class_thresholds
from segjax.stages.config.views import ViewOptions
from segjax.stages.dataset import SPLITS, Dataset, read_own_dataset
from segjax.stages.held_out import check_pool
from segjax.stages.stage import Context, Stage
from segjax.stages.write_records import finish_records, write_records
from segjax.weights.runs import fingerprint

log = logging.getLogger("segjax")

KINDS = ("hard", "soft")
IMAGES = ("copied", "referenced")
ONLY = ("unlabelled", "all")
TOP_K = 3  # classes of a soft label if nothing else is said; the paper does not say how many it keeps


@dataclasses.dataclass(frozen=True)
class PoolOptions:
    """One pool of `unlabelled`: records of a split (split, dataset, only), or files (frames, every).

    dataset: None = that of the stage.
    only: "unlabelled" takes the records without label, "all" takes all.
    frames: folder, video, image, or a pattern such as drive/*.jpg.
    every: N takes every Nth image, and every Nth frame of each video.
    """

    split: str = ""
    dataset: Dataset | None = None
    only: str = "unlabelled"
    frames: str = ""
    every: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ViewOptions):
    """The section of a stage "pseudo_label", beside the views.

    dataset: that the teacher knows, and of pools that name none; None = `config.dataset`.
    checkpoint: of the teacher: name of a stage of this run, or a folder.
    unlabelled: name -> pool of images.
    size: short side in pixels that larger images are reduced to, with their labels; 0 = the size that they have.
    batch_size: images at once; 0 = 1 per CPU device and 4 per accelerator of a process.
    dtype: of the computation.
    labels: "hard", the most probable class; "soft" also stores the `top_k` most probable ones with probabilities.
    top_k: classes of a soft label, 0 = 3.
    threshold: probability below which a pixel is ignored, or class name -> probability.
    confidence: whether each record stores the probabilities of its label.
    images: "copied" into the dataset, or "referenced": only the file's path, size and digest are stored.
    shard_images: images per file; after a kill, unfinished files are computed again.
    limit: number of images, spread evenly over all pools; 0 = all.
    sheet_rows: images on the sheet of each pool.
    """

    checkpoint: str
    unlabelled: Mapping[str, PoolOptions]
    size: int = 0
    batch_size: int = 8
    dtype: str = "auto"
    labels: str = "hard"
    top_k: int = 0
    threshold: Threshold = 0.0
    confidence: bool = False
    images: str = "copied"
    shard_images: int = 32
    limit: int = 0
    sheet_rows: int = 4
    dataset: Dataset | None = None

    @property
    def planes(self) -> int:
        """Number of classes of a soft label; 0 for hard labels."""
        return (self.top_k or TOP_K) if self.labels == "soft" else 0


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys and names, and wrong numbers or views."""
    rest = {key: value for key, value in settings.items() if key not in ("kind", "dataset")}
    section = options_of(rest, Options, where=where)
    pools = section["unlabelled"]
    if not isinstance(pools, Mapping) or not pools:
        raise UserError(
            f"config key {where}.unlabelled={pools!r} must name pools of images, such as "
            "dict(train=dict(split='train::8')) or dict(drive=dict(frames='drive.mp4', every=5))."
        )
    section["unlabelled"] = {
        name: _read_pool(name, one, f"{where}.unlabelled.{name}") for name, one in settings["unlabelled"].items()
    }
    options = Options(**section)
    values = vars(options)
    check_numbers(values, ("shard_images",), where=where, low=1)
    check_numbers(values, ("batch_size", "size", "top_k", "limit", "sheet_rows"), where=where, low=0)
    choose(dict.fromkeys(KINDS), options.labels, where=f"{where}.labels")
    choose(dict.fromkeys(IMAGES), options.images, where=f"{where}.images")
    check_threshold(options.threshold, where=f"config key {where}.threshold")
    compute_dtype(options.dtype)
    inference.check_views(**options.views)
    if options.top_k and options.labels == "hard":
        raise UserError(f"config key {where}.top_k={options.top_k} belongs to labels='soft'; leave it out.")
    if options.images == "referenced":
        if options.size:
            raise UserError(f"config key {where}.size reduces images, which images='referenced' does not store.")
        stored = [name for name, one in options.unlabelled.items() if not one.frames]
        if stored:
            raise UserError(
                f"config key {where}.images='referenced' names files, but the images of pool {stored[0]!r} are stored "
                "in a dataset; take images='copied'."
            )
    return options


def _read_pool(name: str, settings: Mapping[str, Any], where: str) -> PoolOptions:
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"config key {where}: a pool's name has letters, digits, '_', '-' and '.' only.")
    if not hasattr(settings, "keys") or ("split" in settings) == ("frames" in settings):
        raise UserError(
            f"config key {where} must have either 'split', for records of a dataset, or 'frames', for a folder or "
            "video."
        )
    check_keys(settings, {"split", "dataset", "only"} if "split" in settings else {"frames", "every"}, where=where)
    check_numbers(settings, ("every",), where=where, low=1)
    rest = {key: value for key, value in plain(settings).items() if key != "dataset"}
    options = PoolOptions(**rest, dataset=read_own_dataset(settings, where))
    choose(dict.fromkeys(ONLY), options.only, where=f"{where}.only")
    return options


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    frames = {
        f"unlabelled.{name}.frames": str(folder_of(one.frames))
        for name, one in options.unlabelled.items()
        if one.frames
    }
    return {"checkpoint": options.checkpoint, **frames}


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes <stage>/dataset, with the split "pseudo", and sheets of pictures; returns the report.

    Raises UserError for a teacher that cannot be opened, is no image network or has other classes than the stage's
    dataset, for pools without images or with held-out images, for an unknown class, more `top_k` than classes, and a
    folder with the shards of other settings.
    """
    network = open_teacher(options, context.workdir, where=context.name)
    dataset = options.dataset or context.dataset
    check_classes(network, dataset, options.checkpoint, where=context.name)
    pools = open_pools(options, dataset, network.label_map.class_names, where=context.name)
    for pool in pools:
        check_pool(
            context.dataset,
            pool.index,
            lambda place, pool=pool: pool.read(place).image,
            where=f"{context.name}.unlabelled.{pool.name}",
            remedy="name a split or folder without them",
        )
    return label_pools(options, network, pools, context.folder, where=context.name)


def open_teacher(options: Options, workdir: Path | None, *, where: str) -> Network:
    """Opens the teacher.

    options: of the stage.
    workdir: folder of the run; None for a path only.
    where: config key of the stage, "" for a command.

    Raises UserError for a network without class names, and options that do not fit its classes.
    """
    network = open_network(find_run(options.checkpoint, workdir), dtype=options.dtype)
    if network.label_map is None:
        raise UserError(
            f"the network in {options.checkpoint} comes without names of classes; name a run of a stage of kind train."
        )
    names = network.label_map.class_names
    if options.planes > len(names):
        raise UserError(
            f"{_key(where, 'top_k')}={options.planes} is more than the {len(names)} classes of the network in "
            f"{options.checkpoint}; lower it."
        )
    class_thresholds(options.threshold, names, where=_key(where, "threshold"))
    return network


def _key(where: str, name: str) -> str:
    """Returns what a user calls an option: its config key, or the flag of a command."""
    return f"config key {where}.{name}" if where else f"--{name.replace('_', '-')}"


def check_classes(network: Network, dataset: Dataset, checkpoint: str, *, where: str) -> None:
    """Raises UserError unless the teacher has the classes of the run's dataset, in their order."""
    split = next((name for name in SPLITS if dataset.splits.get(name)), "train")
    wanted, found = dataset.open(split, labelled_only=False).class_names, network.label_map.class_names
    if wanted == found:
        return
    different = [f"{a} for {b}" for a, b in zip(found, wanted) if a != b]
    what = f"{len(found)} classes instead of {len(wanted)}" if len(found) != len(wanted) else different[0]
    raise UserError(
        f"config key {where}.checkpoint: the teacher in {checkpoint} has other classes than the dataset {dataset.name} "
        f"({what}); train a teacher on this dataset, or give dataset.label_map."
    )


def open_pools(
    options: Options, dataset: Dataset | None, class_names: Sequence[str], *, where: str, exclude: Path | None = None
) -> list[Pool]:
    """Opens the pools of images.

    dataset: of the run, for pools that name none.
    class_names: of the teacher.
    where: config key of the stage, "" for a command.
    exclude: folder that is not read.

    Raises UserError for a pool without images, and one of which no image can be read.
    """
    pools: list[Pool] = []
    for name, one in options.unlabelled.items():
        if one.frames:
            pool = FilePool(name, one.frames, every=one.every, size=options.size, exclude=exclude)
            if options.images == "referenced" and any(map(pool.in_order, range(len(pool)))):
                raise UserError(
                    f"{_key(where, 'images')}='referenced' names files, but {one.frames} has frames of videos; take "
                    "'copied'."
                )
        else:
            used = one.dataset or dataset
            opened = used.open(one.split, labelled_only=False)
            pool = SplitPool(
                name,
                f"{used.name} {used.splits.get(one.split, one.split)}",
                opened,
                only=one.only,
                size=options.size,
                class_names=class_names,
            )
        pools.append(pool)
    return pools


@dataclasses.dataclass(frozen=True)
class Work:
    """What `write_records` does per shard.

    label: labels a group of images.
    shards: that are written.
    tag: provenance that all records share.
    options: of the stage.
    """

    label: Labeller
    shards: RecordShards
    tag: Mapping[str, str]
    options: Options

    def encode(self, group: Group) -> tuple[Examples, dict[str, Any]]:
        """Returns ({"pseudo": records}, counts of the shard)."""

        def record(one: Labelled) -> dict[str, Any]:
            return encode(
                one,
                self.label.pools[one.pool],
                self.shards.label_map,
                self.tag,
                confidence=self.options.confidence,
                referenced=self.options.images == "referenced",
            )

        records = list(ordered_map(record, group.images))
        note = reports.count_group(group, records, classes=len(self.label.thresholds))
        return {PSEUDO: records}, note


def label_pools(
    options: Options, network: Network, pools: Sequence[Pool], folder: Path, *, where: str, option: str = "--workdir"
) -> dict[str, Any]:
    """Writes folder/dataset and folder/sheets; returns the report.

    options: of the stage.
    network: the teacher.
    pools: of images.
    folder: of the stage.
    where: config key of the stage, "" for a command.
    option: name of what chooses the folder, for errors.

    Raises UserError for a folder with the shards of other settings, a full disk, and a damaged record.
    """
    names, batch = network.label_map.class_names, images_at_once(options.batch_size or None)
    model = f"{network.spec['name']}, step {network.step}"
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    # what changes the records: shards of a killed run with other settings must not be mixed with new ones
    changes = {name: value for name, value in own.items() if name not in ("unlabelled", "sheet_rows")}
    identity = plain(
        {
            **changes,
            "batch_size": batch,
            "top_k": options.planes,
            "model": model,
            "weights": int(fingerprint(network.variables)),
            "pools": {pool.name: [pool.source, config_hash(*pool.identity)] for pool in pools},
        }
    )
    referenced = options.images == "referenced"
    shards = RecordShards(
        folder,
        name=PSEUDO,
        splits=(PSEUDO,),
        label_map=with_ignored(network.label_map),
        extra={
            **PSEUDO_PROVENANCE,
            **features(
                soft=options.planes > 0, confidence=options.confidence, referenced=REFERENCE if referenced else {}
            ),
        },
        identity=identity,
        kind=PSEUDO,
        description=f"Labels of {', '.join(pool.source for pool in pools)} by {model}.",
        option=option,
    )
    label = Labeller(
        network.labeller(confidence=True, top_k=options.planes, **options.views),
        pools,
        batch,
        class_thresholds(options.threshold, names, where=_key(where, "threshold")),
    )
    tag = dict(checkpoint=options.checkpoint, model=model, config=config_hash(identity))
    work = Work(label, shards, tag, options)
    written = write_records(shards, shard_places(pools, options), label, work.encode, prepare=label.read)
    counts, problems = reports.merge(written.notes, pools=len(pools), classes=len(names))
    problems = [*(text for pool in pools for text in getattr(pool, "problems", ())), *problems]
    summaries = {pool.name: reports.summarise(one, names) for pool, one in zip(pools, counts)}
    whole = reports.summarise(reports.total(counts, classes=len(names)), names)
    for (name, summary), one in zip(summaries.items(), counts):
        for line in reports.describe(summary, name=name):
            log.info("%s", line)
        if one.scored and jax.process_index() == 0:
            evaluation.print_scores(one.matrix, names, title=f"pseudo labels of {name} against its own labels")
    for problem in reports.listed(problems):
        log.warning("not labelled: %s", problem)
    directory = finish_records(shards, written)
    if jax.process_index() == 0:
        write_sheets(label, names, network.label_map.palette, options, folder, model)
    log.info("%s images/s in this process", written.rate)
    return {
        "dataset": str(directory),
        "records": whole["images"],
        "model": model,
        **whole,
        "pools": summaries,
        "problems": reports.listed(problems),
        "images_per_second": written.rate,
    }


def shard_places(pools: Sequence[Pool], options: Options) -> list[list[Place]]:
    """Returns the images of every shard: `shard_images` of all pools, one after the other, `limit` spread evenly."""
    places = [(number, place) for number, pool in enumerate(pools) for place in range(len(pool))]
    if options.limit:
        count = min(options.limit, len(places))
        places = [places[i * len(places) // count] for i in range(count)]
    size = options.shard_images
    return [places[start : start + size] for start in range(0, len(places), size)]


def write_sheets(
    label: Labeller, names: Sequence[str], palette: np.ndarray, options: Options, folder: Path, model: str
) -> None:
    """Writes sheets/POOL.png: a few images of each pool, spread evenly, which are labelled again.

    label: labels images.
    names: of the classes.
    palette: uint8 (k, 3).
    options: of the stage.
    folder: of the stage.
    model: name of the teacher.
    """
    if not options.sheet_rows:
        return
    chosen: dict[int, list[Place]] = {}
    for group in shard_places(label.pools, options):
        for place in group:
            chosen.setdefault(place[0], []).append(place)
    for number, places in chosen.items():
        rows = np.unique(np.linspace(0, len(places) - 1, num=options.sheet_rows).astype(int))
        found = label(label.read([places[row] for row in rows])).images
        if found:
            pool = label.pools[number]
            picture = pseudo_sheet(found, names, palette, heading=f"{pool.name}: {pool.source}, labelled by {model}")
            write_png(folder / "sheets" / f"{pool.name}.png", picture)


STAGE = Stage(read, run, inputs)
