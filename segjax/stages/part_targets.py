"""What a training compares the network with in each part of its data: checks, and labels that are made in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from segjax import losses
from segjax.data.mixed_plan import REAL
from segjax.errors import UserError, choose
from segjax.stages.config.thresholds import class_thresholds
from segjax.stages.extra_data import ExtraOptions
from segjax.training.terms import TermOptions


def part_names(extras: Sequence[ExtraOptions]) -> tuple[str, ...]:
    """Returns the names of the parts of a training, by number: the real images and the extra data.

    Raises UserError for extra data with the name of the real images.
    """
    for one in extras:
        if one.name == REAL:
            raise UserError(f"config key {one.where}: {REAL!r} is the name of the real images; choose another name.")
    return (REAL, *(one.name for one in extras))


def check_term_parts(term: TermOptions, parts: Sequence[str], where: str) -> None:
    """Raises UserError with the nearest name if a term names a part that the training does not have.

    term: of the loss. parts: names. where: config key of the term.
    """
    for name in term.parts:
        choose(dict.fromkeys(parts), name, where=f"{where}.parts")


def check_soft(terms: Mapping[str, TermOptions], top_k: int, where: str) -> None:
    """Raises UserError for a loss of soft labels if no part of the training has any.

    terms: of the loss. top_k: of the training's source, 0 without soft labels. where: config key of the loss.
    """
    for key, term in terms.items():
        if "soft_ids" in losses.targets_of(losses.LOSSES[term.name]) and not top_k:
            raise UserError(
                f"config key {where}.{key}.name={term.name!r} compares with soft labels, and all labels of this "
                "training are hard; set labels='soft' in the stage that writes pseudo labels, or take cross_entropy."
            )


def online_parts(extras: Iterable[ExtraOptions]) -> dict[int, ExtraOptions]:
    """Returns number of the part -> its options, for those that the network labels during training."""
    return {number: one for number, one in enumerate(extras, start=1) if one.labels == "online"}


def online_thresholds(extras: Iterable[ExtraOptions], names: Sequence[str]) -> dict[int, np.ndarray]:
    """Returns number of the part -> least probability of a label by class, float32 (k,), see `label_online`.

    names: of the k classes.

    Raises UserError with the nearest name for an unknown class.
    """
    return {
        number: class_thresholds(one.threshold, names, where=f"config key {one.where}.threshold")
        for number, one in online_parts(extras).items()
    }
