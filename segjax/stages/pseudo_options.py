"""Options of the stage "pseudo_label" and of the command: read from the section, before any data is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from segjax import inference
from segjax.errors import UserError, choose
from segjax.files import plain
from segjax.inference.network import compute_dtype
from segjax.pseudo.pools import folder_of
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.config.thresholds import Threshold, check_threshold
from segjax.stages.config.views import ViewOptions
from segjax.stages.dataset import Dataset, read_own_dataset

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
    dataset: whose classes the teacher has, and of pools that name none; None = `config.dataset`.
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
    options = Options(**section, dataset=read_own_dataset(settings, where))
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


def key_of(where: str, name: str) -> str:
    """Returns what a user calls an option: its config key, or the flag of a command."""
    return f"config key {where}.{name}" if where else f"--{name.replace('_', '-')}"
