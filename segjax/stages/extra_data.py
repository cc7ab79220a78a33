"""Training data beside the labelled images of a split: what a stage has written, or images of another split.

train.extra = dict(stage="propagate", mode="jp", steps=(1,))
train.extra = dict(
    propagated=dict(stage="propagate", mode="jp", steps=(1, 2, 3)),
    pseudo=dict(stage="pseudo_label"),
    coarse=dict(split="train_extra", classes=("truck", "bus", "train"), in_epoch=False),
    rest=dict(split="train::8", only="unlabelled", labels="online", threshold=0.9),
)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax import data
from segjax.data.derived import MODES, PROPAGATED, PSEUDO, open_derived, open_propagated
from segjax.data.joined import Joined, Subset
from segjax.data.plans import Extra
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.stages.config.keys import check_keys
from segjax.stages.config.thresholds import Threshold, check_threshold
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.held_out import check_pool, check_propagated
from segjax.stages.stage import Context

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
    in_epoch: whether these records count for the length N of an epoch and its random part (in VPLR's Cityscapes
        training), or only add places of classes (in its CamVid training, and for its coarse labels). None = as a
        stage's records do, and those of a split do not.
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
        check_keys(one, known | {"in_epoch", "classes"}, where=here, required=required)
        _check_records(one, here)
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
                **{key: one[key] for key in ("only", "labels", "threshold") if key in one},
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
        in_epoch = bool(one.stage) if one.in_epoch is None else one.in_epoch
        found.append(Extra(one.name, source, first, in_epoch, classes))
        first += len(source)
    return Joined([real, *(extra.source for extra in found)]), found


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
