"""Stage "pseudo_label": labels pools of images with a trained network and writes them as a dataset.

Source: Zhu et al., Improving Semantic Segmentation via Self-Training (v1), and CSST (v2), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segjax.data.resized import Resize
from segjax.errors import UserError
from segjax.inference.network import Network, find_run, open_network
from segjax.pseudo.pools import FilePool, Pool, SplitPool
from segjax.stages.config.thresholds import class_thresholds
from segjax.stages.dataset import SPLITS, Dataset
from segjax.stages.held_out import check_pool
from segjax.stages.label_pools import label_pools
from segjax.stages.pseudo_options import Options, inputs, key_of, read
from segjax.stages.stage import Context, Stage


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes <stage>/dataset, with the split "pseudo", and sheets of pictures; returns the report.

    Raises UserError for a teacher that cannot be opened, is no image network or has other classes than the stage's
    dataset, for pools without images or with held-out images, for an unknown class, more `top_k` than classes, and a
    folder with the shards of other settings.
    """
    dataset = options.dataset or context.dataset
    network = open_teacher(options, context.workdir, where=context.name, resize=dataset.resize)
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


def open_teacher(options: Options, workdir: Path | None, *, where: str, resize: Resize | None = None) -> Network:
    """Opens the teacher.

    options: of the stage.
    workdir: folder of the run; None for a path only.
    where: config key of the stage, "" for a command.
    resize: of the images to label.

    Raises UserError for a network without class names, and options that do not fit its classes.
    """
    network = open_network(find_run(options.checkpoint, workdir), dtype=options.dtype, resize=resize)
    if network.label_map is None:
        raise UserError(
            f"the network in {options.checkpoint} comes without names of classes; name a run of a stage of kind train."
        )
    names = network.label_map.class_names
    if options.planes > len(names):
        raise UserError(
            f"{key_of(where, 'top_k')}={options.planes} is more than the {len(names)} classes of the network in "
            f"{options.checkpoint}; lower it."
        )
    class_thresholds(options.threshold, names, where=key_of(where, "threshold"))
    return network


def check_classes(network: Network, dataset: Dataset, checkpoint: str, *, where: str) -> None:
    """Raises UserError unless the teacher has the classes of the stage's dataset, in their order."""
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

    dataset: of the stage, for pools that name none.
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
                    f"{key_of(where, 'images')}='referenced' names files, but {one.frames} has frames of videos; take "
                    "'copied'."
                )
        else:
            used = one.dataset or dataset
            opened = used.open(one.split, labelled_only=False)
            pool = SplitPool(
                name,
                f"{used} {used.splits.get(one.split, one.split)}",
                opened,
                only=one.only,
                size=options.size,
                class_names=class_names,
            )
        pools.append(pool)
    return pools


STAGE = Stage(read, run, inputs, writes_dataset=True)
