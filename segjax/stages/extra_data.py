"""Training data beside the labelled images of a split: propagated frames, or coarsely labelled images.

train.extra = dict(stage="propagate", mode="jp", steps=(1,))
train.extra = dict(
    propagated=dict(stage="propagate", mode="jp", steps=(1, 2, 3)),
    coarse=dict(split="train_extra", classes=("truck", "bus", "train"), in_epoch=False),
)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from segjax import data
from segjax.data.derived import open_propagated
from segjax.data.joined import Joined
from segjax.data.plans import Extra
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.config.thresholds import Threshold
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.held_out import check_propagated
from segjax.stages.stage import Context

_KINDS = ({"stage", "mode", "steps"}, {"split", "dataset"})


@dataclasses.dataclass(frozen=True)
class ExtraOptions:
    """One part of `train.extra`: propagated frames (stage, mode, steps), or labelled images (split, dataset).

    name: of the part.
    where: its config key.
    stage: name of a stage of this run, or a folder.
    mode, steps: see `open_propagated`.
    split: of the dataset.
    dataset: None = `config.dataset`.
    in_epoch: whether these records count for the length N of an epoch and its random part (in VPLR's Cityscapes
        training), or only add places of classes (in its CamVid training, and for its coarse labels).
    classes: classes whose places are used, () = all. VPLR uses all of propagated frames, 7 rare ones of coarse labels.
    labels: "stored", or "online": those of the network in training, see `training.online`.
    threshold: of labels="online", the least probability of a label: a number, or class name -> number.
    """

    name: str
    where: str
    stage: str
    mode: str
    steps: tuple[int, ...]
    split: str
    dataset: Dataset | None
    in_epoch: bool
    classes: tuple[str | int, ...]
    labels: str = "stored"
    threshold: Threshold = 0.0


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """The section `sampler`. kind: a key of `data.PLANS`. options: of that plan. The others: see `make_plan`."""

    kind: str
    options: Mapping[str, Any]
    cut_epoch: int | None
    cut_places: str


def read_extras(settings: Mapping[str, Any], where: str) -> tuple[ExtraOptions, ...]:
    """Reads the section `extra`: one part, or several by name. Raises UserError for unknown and missing keys."""
    settings = plain(settings)
    if not settings:
        return ()
    single = any(not isinstance(value, Mapping) for value in settings.values())
    found = []
    for name, one in ({settings.get("stage", "extra"): settings} if single else settings).items():
        here, known, required = (where if single else f"{where}.{name}"), _KINDS[1], ["split"]
        if "stage" in one:
            known, required = _KINDS[0], ["mode", "steps"]
        check_keys(one, known | {"in_epoch", "classes", "labels", "threshold"}, where=here, required=required)
        found.append(
            ExtraOptions(
                name=name,
                where=here,
                stage=one.get("stage", ""),
                mode=one.get("mode", ""),
                steps=tuple(one.get("steps", ())),
                split=one.get("split", ""),
                dataset=read_own_dataset(one, here),
                in_epoch=one.get("in_epoch", "stage" in one),
                classes=tuple(one.get("classes", ())),
                labels=one.get("labels", "stored"),
                threshold=one.get("threshold", 0.0),
            )
        )
    return tuple(found)


def read_sampler(settings: Mapping[str, Any], where: str) -> SamplerOptions:
    """Reads the section `sampler` of a stage. Raises UserError for unknown keys and names, and wrong numbers."""
    here, settings = f"{where}.sampler", plain(settings)
    check_numbers(settings, ("tile", "cut_epoch"), where=here, low=0)
    check_numbers(settings, ("min_area",), where=here, low=1)
    check_numbers(settings, ("share",), where=here, low=0, whole=False)
    kind = settings.pop("kind", "uniform")
    cut_epoch, cut_places = settings.pop("cut_epoch", None), settings.pop("cut_places", "all")
    choose({"all": 0, "real": 0}, cut_places, where=f"{here}.cut_places")
    options = options_of(settings, choose(data.PLANS, kind, where=f"{here}.kind"), where=here)
    return SamplerOptions(kind, options, cut_epoch, cut_places)


def open_extras(extras: Sequence[ExtraOptions], real: data.Source, context: Context) -> tuple[data.Source, list[Extra]]:
    """Returns (joined source of the real and the extra records, in this order; the extras).

    extras: see `read_extras`.
    real: records of the training's split.
    context: of the stage.

    Raises UserError for a dataset that does not exist, lacks the steps, has other classes, or contains labels that were
    propagated from or to held-out images.
    """
    if not extras:
        return real, []
    found, first = [], len(real)
    for one in extras:
        if one.stage:
            inside = context.workdir / one.stage / "dataset"
            folder = inside if inside.is_dir() else one.stage
            source = open_propagated(folder, f"{one.where}.stage", mode=one.mode, steps=one.steps)
            check_propagated(context.dataset, source, where=f"{one.where}.stage")
        else:
            source = (one.dataset or context.dataset).open(one.split)
        classes = tuple(class_id(c, real.class_names, where=one.where) for c in one.classes)
        found.append(Extra(one.name, source, first, one.in_epoch, classes))
        first += len(source)
    return Joined([real, *(extra.source for extra in found)]), found


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
