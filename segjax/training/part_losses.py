"""The loss of each part of the training data, for the log: it shows which part a network learns, and from which not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax.training.terms import LossTerm, total_loss
from segjax.typing import Array, SegOutput, Targets

Watched = Mapping[str, tuple[LossTerm, ...]]


def terms_by_part(terms: Sequence[LossTerm], parts: Sequence[str]) -> Watched:
    """Returns "loss/PART" -> the terms of the loss over the pixels of that part only; {} for less than two parts.

    Parts that no term looks at are missing.

    terms: of the loss, see `loss_terms`.
    parts: names of the parts, by number.
    """
    found = {}
    for number, part in enumerate(parts if len(parts) > 1 else ()):
        own = [term for term in terms if not term.parts or number in term.parts]
        name = f"loss/{part}"
        found[name] = tuple(dataclasses.replace(t, name=f"{name}/{t.name}", parts=(number,)) for t in own)
    return {name: own for name, own in found.items() if own}


def part_losses(watched: Watched, output: SegOutput, targets: Targets, **options: Any) -> dict[str, Array]:
    """Returns the loss of each part, () float32 by name, without gradient.

    watched: see `terms_by_part`.
    output, targets, options: as in `total_loss`.
    """
    output = jax.lax.stop_gradient(output)
    return {name: total_loss(terms, output, targets, **options)[0] for name, terms in watched.items()}


def without_empty_parts(
    metrics: Mapping[str, Array], terms: Sequence[LossTerm], watched: Watched, targets: Targets
) -> dict[str, Array]:
    """Returns the metrics with nan for means over parts without a labelled pixel, which are undefined.

    metrics: by name.
    terms: of the loss; those over some parts are concerned.
    watched: see `terms_by_part`.
    targets: of the whole batch.
    """
    over_parts = {term.name: term for term in terms if term.parts}
    over_parts |= {name: own[0] for name, own in watched.items()}
    labelled = {name: jnp.any(term.labelled(targets)) for name, term in over_parts.items()}
    return {**metrics, **{name: jnp.where(some, metrics[name], jnp.nan) for name, some in labelled.items()}}


def number_of_part(records: Array, parts: Mapping[str, tuple[int, int]]) -> jax.Array:
    """Returns the number of the part that each record belongs to, (b,) int32.

    records: (b,) int32.
    parts: name -> (first, end) record, one after the other from 0, see `data.plans.parts_of`.
    """
    ends = jnp.asarray([end for _, end in parts.values()][:-1], jnp.int32)
    return jnp.sum(records[:, None] >= ends, axis=1, dtype=jnp.int32)
