"""Training data beside the labelled images of a split: what a stage has written, or images of another split.

train.extra = dict(stage="propagate", mode="jp", steps=(1,))
train.extra = dict(
    propagated=dict(stage="propagate", mode="jp", steps=(1, 2, 3)),
    pseudo=dict(stage="pseudo_label"),
    coarse=dict(split="train_extra", classes=("truck", "bus", "train"), in_epoch=False),
    rest=dict(split="train::8", only="unlabelled", labels="online", threshold=0.9),
    kitti=dict(split="train", dataset=dict(name="kitti", label_map="rob_kitti"), times=2),
)
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax import data
from segjax.data.derived import MODES, PROPAGATED, PSEUDO, open_derived, open_propagated
from segjax.data.joined import Joined, Subset, class_difference
from segjax.data.plans import Extra
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.stages.config.keys import check_keys
from segjax.stages.config.thresholds import Threshold, check_threshold
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.held_out import check_pool, check_propagated
from segjax.stages.stage import Context

log = logging.getLogger("segjax")

_KINDS = ({"stage", "mode", "steps"}, {"split", "dataset", "only", "labels", "threshold"})
ONLY = ("labelled", "unlabelled", "all")
LABELS = ("stored", "online")


@dataclasses.dataclass(frozen=True)
class ExtraOptions:
    """One part of `train.extra`: what a stage has written (stage), or images of a split (split, dataset, only, labels).

    name: of the part.
    where: its config key.
    stage: name of a stage of this run, or a folder.
    mode, steps: of propagated labels, see `open_propagated`; "" and () for other kinds.
    split: of the dataset.
    dataset: None = that of the training.
    only: records of the split: "labelled", "unlabelled" or "all".
    labels: "stored", or "online": those of the network in training, see `training.online`.
    threshold: of labels="online": probability below which a pixel is ignored, or class name -> probability.
    times: how often an epoch of a uniform sampler shows each record.
    in_epoch: whether these records count for the length N of an epoch and its random part (in VPLR's Cityscapes
        training), or only add places of classes (in its CamVid training, and for its coarse labels). None = as a
        stage's records and those with `times` do, and others do not.
    classes: classes whose places are used, () = all. VPLR uses all of propagated frames, 7 rare ones of coarse labels.
    """

    name: str
    where: str
    stage: str
    mode: str
    steps: tuple[int, ...]
    split: str
    dataset: Dataset | None
    in_epoch: bool | None
    classes: tuple[str | int, ...]
    only: str = "labelled"
    labels: str = "stored"
    threshold: Threshold = 0.0
    times: int | None = None

    @property
    def counted(self) -> bool:
        """Whether the records count for an epoch, see `in_epoch`."""
        return bool(self.stage or self.times) if self.in_epoch is None else self.in_epoch


def read_extras(settings: Mapping[str, Any], where: str) -> tuple[ExtraOptions, ...]:
    """Reads the section `extra`: one part, or several by name. Raises UserError for unknown and missing keys."""
    settings = plain(settings)
    if not settings:
        return ()
    single = any(not isinstance(value, Mapping) for value in settings.values())
    found = []
    for name, one in ({settings.get("stage", "extra"): settings} if single else settings).items():
        here, known, required = (where if single else f"{where}.{name}"), _KINDS[1], ["split"]
        if "stage" in one:  # a stage that propagates needs both keys, any other stage neither
            known, required = _KINDS[0], (["mode", "steps"] if {"mode", "steps"} & {*one} else [])
        check_keys(one, known | {"in_epoch", "classes", "times"}, where=here, required=required)
        _check_records(one, here)
        _check_times(one, here)
        found.append(
            ExtraOptions(
                name=name,
                where=here,
                stage=one.get("stage", ""),
                mode=one.get("mode", ""),
                steps=tuple(one.get("steps", ())),
                split=one.get("split", ""),
                dataset=read_own_dataset(one, here),
                in_epoch=one.get("in_epoch"),
                classes=tuple(one.get("classes", ())),
                **{key: one[key] for key in ("only", "labels", "threshold", "times") if key in one},
            )
        )
    return tuple(found)


def _check_records(settings: Mapping[str, Any], where: str) -> None:
    """Raises UserError unless the part's records have labels to train on: stored ones, or those of the network."""
    only, labels = settings.get("only", "labelled"), settings.get("labels", "stored")
    choose(dict.fromkeys(ONLY), only, where=f"{where}.only")
    choose(dict.fromkeys(LABELS), labels, where=f"{where}.labels")
    check_threshold(settings.get("threshold", 0.0), where=f"config key {where}.threshold")
    if labels == "stored" and only != "labelled":
        raise UserError(
            f"config key {where}.only={only!r} takes records without label; give labels='online', or label them "
            "first with a stage of kind pseudo_label."
        )
    if labels == "stored" and "threshold" in settings:
        raise UserError(
            f"config key {where}.threshold belongs to labels='online'; stored pseudo labels have the threshold of "
            "their stage pseudo_label."
        )


def _check_times(settings: Mapping[str, Any], where: str) -> None:
    """Raises UserError unless `times` is a whole number from 1, of records that count for an epoch."""
    times = settings.get("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise UserError(
            f"config key {where}.times={times!r} must be a whole number, 1 or more; leave {where} out to train without "
            "these records."
        )
    if "times" in settings and settings.get("in_epoch") is False:
        raise UserError(
            f"config key {where}.times={times} means nothing to records that do not count for an epoch; leave it out, "
            "or give in_epoch=True."
        )


def check_classes(extras: Sequence[ExtraOptions], dataset: Dataset) -> None:
    """Raises UserError for a part with other classes than the training; reads no data.

    A map must list every common class. One that the part cannot have gets an id that no mask holds, as in the tables
    rob_*, so that a forgotten class is told from one that is absent. Datasets whose classes are not known yet, because
    a stage will write them, are compared when they are opened.

    extras: see `read_extras`.
    dataset: of the training.
    """
    common = dataset.class_names()
    for one in extras:
        found = one.dataset.class_names() if one.dataset else ()
        other = class_difference(common, found) if common and found else ""
        if other:
            raise UserError(
                f"config key {one.where}.dataset.label_map={one.dataset.label_map!r}: {one.dataset.name} {other}; give "
                "a map onto the classes of the training, with an id that no mask holds for a class without labels."
            )


def open_extras(
    extras: Sequence[ExtraOptions], real: data.Source, context: Context, dataset: Dataset | None = None
) -> tuple[data.Source, list[Extra]]:
    """Returns (joined source of the real and the extra records, in this order; the extras).

    extras: see `read_extras`.
    real: records of the training's split.
    context: of the stage.
    dataset: of the training, for parts that name none; None = `config.dataset`.

    Raises UserError for a dataset that does not exist, lacks the steps, has other classes, or contains labels that were
    propagated from or to held-out images, or held-out images themselves.
    """
    if not extras:
        return real, []
    found, first = [], len(real)
    for one in extras:
        own = one.dataset or dataset or context.dataset
        source = _open_written(one, context) if one.stage else _open_split(one, context, own)
        classes = tuple(class_id(c, real.class_names, where=one.where) for c in one.classes)
        found.append(Extra(one.name, source, first, one.counted, classes, one.times or 1))
        first += len(source)
    joined = Joined([real, *(extra.source for extra in found)])
    log_absent({"the split": real, **{extra.name: extra.source for extra in found}})
    return joined, found


def log_absent(sources: Mapping[str, data.Source]) -> None:
    """Logs the classes of which each part of a training, or the whole of it, has no labels.

    sources: name of the part -> its records, which have the same classes.
    """
    names = next(iter(sources.values())).class_names
    everywhere = set(range(len(names)))
    for part, source in sources.items():
        absent = [c for c in range(len(names)) if c not in source.own_classes]
        everywhere &= set(absent)
        if absent:
            log.info(
                "%s has no labels of %d of the %d classes: %s",
                part, len(absent), len(names), ", ".join(names[c] for c in absent),
            )  # fmt: skip
    if everywhere:
        listed = ", ".join(names[c] for c in sorted(everywhere))
        log.warning("no part of the training has labels of %s, which the network cannot learn", listed)


def _open_written(one: ExtraOptions, context: Context) -> data.Source:
    """Opens what a stage has written, of any kind; errors as in `open_extras`."""
    inside, where = context.workdir / one.stage / "dataset", f"{one.where}.stage"
    derived = open_derived(inside if inside.is_dir() else one.stage, where)
    if derived.kind == PROPAGATED:
        if not one.mode:
            raise UserError(
                f"config key {where}: {one.stage} has propagated labels; add {one.where}.mode ({' or '.join(MODES)}) "
                f"and {one.where}.steps, such as (1,)."
            )
        source = open_propagated(derived.directory, where, mode=one.mode, steps=one.steps)
        check_propagated(context.dataset, source, where=where)
        return source
    if one.mode:
        raise UserError(
            f"config keys {one.where}.mode and {one.where}.steps belong to propagated labels, but {one.stage} has "
            f"labels of kind {derived.kind!r}; leave them out."
        )
    source = derived.open(PSEUDO if PSEUDO in derived.splits else derived.splits[0], fields=derived.soft)
    check_pool(
        context.dataset,
        source.index,
        lambda row: source[row].image,
        where=where,
        remedy="label a pool without them",
        pooled=derived.kind == PSEUDO,
    )
    return Subset(source, np.arange(len(source)), fingerprint=derived.fingerprint)


def _open_split(one: ExtraOptions, context: Context, dataset: Dataset) -> data.Source:
    """Opens the records of a split; those without label stay without. Errors as in `open_extras`."""
    if one.labels == "stored":
        return dataset.open(one.split)
    source = dataset.open(one.split, labelled_only=one.only == "labelled")
    if one.only == "unlabelled":
        rows = np.flatnonzero(~source.index.labelled)
        if not len(rows):
            raise UserError(
                f"config key {one.where}: all {len(source)} records of {one.split!r} are labelled; name a split such "
                "as train::8, or give only='all'."
            )
        source = Subset(source, rows)
    else:
        source = Subset(source, np.arange(len(source)))
    check_pool(
        context.dataset,
        source.source.index.take(source.rows),
        lambda row: source[row].image,
        where=f"{one.where}.split",
        remedy="name a split without them",
    )
    return source


def class_id(name: str | int, names: Sequence[str], *, where: str) -> int:
    """Returns the train id of a class.

    name: of the class, or its train id.
    names: of all classes.
    where: config key of the extra data, for the error.

    Raises UserError with the nearest name for an unknown class.
    """
    if isinstance(name, int) and 0 <= name < len(names):
        return name
    if name not in names:
        raise UserError(f"config key {where}.classes names {name!r}, which is no class.{did_you_mean(name, names)}")
    return list(names).index(name)
