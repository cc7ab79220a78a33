"""The section `loss` of a training stage: its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segjax import losses
from segjax.errors import UserError, choose
from segjax.stages.config.keys import options_of
from segjax.stages.part_targets import check_term_parts
from segjax.training.terms import TermOptions


def read_loss(settings: Mapping[str, Any], parts: Sequence[str], where: str) -> dict[str, TermOptions]:
    """Returns the terms by name.

    settings: the section. parts: names of the parts of the training data. where: its config key.
    Raises UserError for unknown keys, losses and parts, and for no terms.
    """
    terms = {}
    for key in settings:
        here = f"{where}.{key}"
        term = options_of(settings[key], TermOptions, where=here)
        loss = choose(losses.LOSSES, term["name"], where=f"{here}.name")
        options = options_of(term.pop("options", {}), loss, where=f"{here}.options")
        term["parts"] = (named,) if isinstance(named := term.get("parts", ()), str) else named
        terms[key] = TermOptions(**term, options=options)
        check_term_parts(terms[key], parts, here)
    if not terms:
        raise UserError(f"config key {where} has no terms; add for example main={{'name': 'cross_entropy'}}.")
    return terms


def check_no_teacher(terms: Mapping[str, TermOptions], where: str) -> None:
    """Raises UserError for a loss that compares with a teacher's logits; where: config key of the loss."""
    for key, term in terms.items():
        if "teacher" in losses.targets_of(losses.LOSSES[term.name]):
            raise UserError(
                f"config key {where}.{key}.name={term.name!r} compares with the keyframe network of a stage of kind "
                "train_gsvnet; take cross_entropy, or top_k_cross_entropy with soft pseudo labels."
            )
