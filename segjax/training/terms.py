"""The terms of a loss: each is a function of one output of the network, with a weight, over all parts or some."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from segjax import losses
from segjax.errors import UserError, did_you_mean
from segjax.ops import resize
from segjax.typing import Array, SegOutput, Sum, Targets


@dataclass(frozen=True)
class LossTerm:
    """One named part of the loss.

    name: of the term, for the log.
    function: (logits (b, h, w, k), targets, *, epoch () int32) -> Sum; targets["labels"]: (b, h, w) int.
    weight: factor of the term's mean.
    on: "logits", the name of an auxiliary output, "aux" for the mean over all of these that are maps, or "aux_joined"
        for one mean over their pixels or cells.
    align_corners: of the resizing.
    resize: whether logits are enlarged to the size of the labels first.
    count_of_labels: whether the Sum's count depends on the targets only, and so is known before the network runs.
    parts: numbers of the parts whose pixels count, () = all; targets["part"]: (b,) int32.
    ignore_label: label of pixels that do not count.
    cell: side of the cells in which the term needs counts of the labels, see `losses.Grid`; None = it needs none.
    """

    name: str
    function: Callable[..., Sum]
    weight: float = 1.0
    on: str = "logits"
    align_corners: bool = False
    resize: bool = True
    count_of_labels: bool = True
    parts: tuple[int, ...] = ()
    ignore_label: int = 255
    cell: int | None = None

    def of(self, targets: Targets) -> Targets:
        """Returns the targets with the pixels of other parts ignored."""
        if not self.parts:
            return targets
        counts = functools.reduce(jnp.logical_or, [targets["part"] == number for number in self.parts])[..., None, None]
        labels = jnp.where(counts, targets["labels"], self.ignore_label)
        cells = {grid: jnp.where(counts[..., None], x, 0) for grid, x in targets.get("cells", {}).items()}
        return {**targets, "labels": labels, "cells": cells}

    def labelled(self, targets: Targets) -> Array:
        """Returns which pixels are not ignored, bool of the labels' shape."""
        return self.of(targets)["labels"] != self.ignore_label


@dataclass(frozen=True, kw_only=True)
class TermOptions:
    """A term in a recipe.

    name: key of `losses.LOSSES`.
    on: an output of the network; "aux", the mean over its auxiliary heads; "aux_joined", one mean over the pixels or
        cells of all these heads; or "heads", all outputs with the weights and losses published with the network.
    weight: factor of the term's mean.
    options: keyword-only options of the loss.
    align_corners: of the resizing of logits to the labels' size.
    parts: names of the parts of the training data whose pixels count, () = all.
    """

    name: str
    on: str = "heads"
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    align_corners: bool = False
    parts: Sequence[str] = ()


def loss_terms(
    terms: Mapping[str, TermOptions],
    loss_weights: Mapping[str, float],
    *,
    ignore_label: int = 255,
    loss_names: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType({}),
    parts: Sequence[str] = (),
) -> tuple[LossTerm, ...]:
    """Builds the terms of a loss, in the order of their names.

    A term on "heads" becomes one term for each output, with the name NAME for the logits and NAME.HEAD for the others.

    terms: by name, as in `train.loss`.
    loss_weights: output -> published weight.
    ignore_label: label of pixels that do not count.
    loss_names: output -> (loss that "heads" uses there instead of the term's, its options).
    parts: names of the parts of the training data, by number.

    Raises UserError with the nearest name for an output that the network does not have.
    """
    found = []
    check_outputs(terms, loss_weights, loss_names, where="loss")
    for key in sorted(terms):
        term = terms[key]
        for head, share in (loss_weights if term.on == "heads" else {term.on: 1.0}).items():
            own = loss_names.get(head) if term.on == "heads" else None
            loss, options = own or (term.name, term.options)
            function = {**losses.LOSSES, **(losses.OUTPUT_LOSSES if own else {})}[loss]
            found.append(
                LossTerm(
                    name=f"{key}.{head}" if term.on == "heads" and head != "logits" else key,
                    function=_of_targets(function, ignore_label, options),
                    weight=term.weight * share,
                    on=head,
                    align_corners=term.align_corners,
                    resize=loss not in losses.AT_LOGIT_SIZE,
                    count_of_labels=loss not in losses.COUNT_OF_LOGITS,
                    parts=tuple(list(parts).index(name) for name in term.parts),
                    ignore_label=ignore_label,
                    cell=options.get("cell", 0) if "cells" in losses.targets_of(function) else None,
                )
            )
    return tuple(found)


def check_outputs(
    terms: Mapping[str, TermOptions], loss_weights: Mapping[str, float], loss_names: Mapping[str, Any], *, where: str
) -> None:
    """Raises UserError with the nearest name for a term, or a loss of the network, on an output that it does not have.

    terms, loss_weights, loss_names: see `loss_terms`; the network has the outputs with a published weight.
    where: config key of the loss.
    """
    several = [*loss_weights, "heads", *(["aux", "aux_joined"] if len(loss_weights) > 1 else [])]
    for key, term in terms.items():
        if term.on not in several:
            raise UserError(
                f"config key {where}.{key}.on={term.on!r} is not an output of this network, whose option aux may be "
                f"off.{did_you_mean(term.on, several)}"
            )
    for head in loss_names:
        if head not in loss_weights:
            raise UserError(f"loss_names of this network: {head!r} has no weight.{did_you_mean(head, loss_weights)}")


def _of_targets(loss: Callable[..., Sum], ignore_label: int, options: Mapping[str, Any]) -> Callable[..., Sum]:
    names = losses.targets_of(loss)
    # only relaxation depends on the epoch; the others keep the plain signature of a function of arrays
    of_epoch = "epoch" in inspect.signature(loss).parameters
    loss = functools.partial(loss, ignore_label=ignore_label, **options)

    def term(logits: Array, targets: Targets, *, epoch: Array) -> Sum:
        return loss(logits, *(targets[name] for name in names), **({"epoch": epoch} if of_epoch else {}))

    return term


def with_cells(terms: Sequence[LossTerm], output: SegOutput, targets: Targets) -> Targets:
    """Returns the targets with counts of the labels in the cells of all outputs that the terms compare by cell.

    All terms, heads and parts share one look at the pixels. Counts that the targets have already are kept.

    terms: see `loss_terms`; of one ignore label.
    output: of the network, or its shapes, for these images or for a micro-batch of them.
    targets: of the batch, (b, ...), or of all micro-batches, (m, b, ...).

    Raises UserError for a term on an output that the network does not have.
    """
    of_cells, known = [term for term in terms if term.cell is not None], targets.get("cells", {})
    grids = {losses.grid_of(head.shape, term.cell) for term in of_cells for head in _heads(term, output)} - set(known)
    if not grids:
        return targets
    counted = losses.count_classes(targets["labels"], sorted(grids), of_cells[0].ignore_label)
    return {**targets, "cells": {**known, **counted}}


def total_loss(
    terms: tuple[LossTerm, ...],
    output: SegOutput,
    targets: Targets,
    *,
    epoch: Array,
    counts: Mapping[str, Array] = MappingProxyType({}),
    shares: Mapping[str, Array] = MappingProxyType({}),
) -> tuple[Array, dict[str, Array]]:
    """Returns the weighted sum of the terms' means, () float32, and each term's mean by name.

    For a micro-batch it returns the addend that it contributes to those of the whole batch.

    terms: see `loss_terms`.
    output: of the network, for this batch or micro-batch.
    targets: of the same images.
    epoch: () int32, counted from 0.
    counts: for a micro-batch, term -> counts of the whole batch, (heads,), see `batch_counts`.
    shares: for a micro-batch, term without counts -> factor of the micro-batch's own mean, see `batch_shares`.

    Raises UserError for a term on an output that the network does not have.
    """
    means, targets = {}, with_cells(terms, output, targets)
    for term in terms:
        sums = _sums(term, output, targets, epoch)
        if term.name in counts:
            heads = [Sum(s.value, count).mean() for s, count in zip(sums, counts[term.name], strict=True)]
        else:
            heads = [shares.get(term.name, 1.0) * s.mean() for s in sums]
        means[term.name] = sum(heads) / len(heads)
    return sum(term.weight * means[term.name] for term in terms), means


def batch_shares(terms: Sequence[LossTerm], targets: Targets) -> dict[str, jax.Array]:
    """Returns term -> share of each micro-batch in the valid pixels, (m,) float32, for terms without `batch_counts`.

    terms: see `loss_terms`.
    targets: of all micro-batches, (m, b, ...).
    """
    found = {}
    for term in terms:
        if not term.count_of_labels:
            share = jnp.sum(term.labelled(targets), axis=(1, 2, 3)).astype(jnp.float32)
            found[term.name] = share / jnp.maximum(share.sum(), 1.0)
    return found


def batch_counts(
    terms: Sequence[LossTerm], output: SegOutput, targets: Targets, *, epoch: Array
) -> dict[str, jax.Array]:
    """Returns term -> counts of the whole batch, (heads,) float32: the divisors of the values of the term's heads.

    Terms whose count depends on the logits are not in the result.

    terms: see `loss_terms`.
    output: shapes of the network's output for one micro-batch.
    targets: of all micro-batches, (m, b, ...).
    epoch: () int32, counted from 0.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output)  # XLA removes all computations on these
    known = [term for term in terms if term.count_of_labels]
    targets = with_cells(known, output, targets)

    def one(part: Targets) -> dict[str, jax.Array]:
        return {term.name: jnp.stack([s.count for s in _sums(term, zeros, part, epoch)]) for term in known}

    return jax.tree.map(lambda counts: counts.sum(0), jax.lax.map(one, targets))


def _sums(term: LossTerm, output: SegOutput, targets: Targets, epoch: Array) -> list[Sum]:
    size, targets = targets["labels"].shape[-2:], term.of(targets)
    heads = [
        head if head.shape[-3:-1] == size or not term.resize else resize(head, size, align_corners=term.align_corners)
        for head in _heads(term, output)
    ]
    sums = [term.function(head, targets, epoch=epoch) for head in heads]
    return [functools.reduce(Sum.__add__, sums)] if term.on == "aux_joined" else sums


def _heads(term: LossTerm, output: SegOutput) -> list[Array]:
    if term.on == "logits":
        return [output.logits]
    if term.on in ("aux", "aux_joined") and output.aux:
        return [head for head in output.aux.values() if head.ndim == output.logits.ndim]  # maps only
    if term.on in output.aux:
        return [output.aux[term.on]]
    raise UserError(
        f"loss.{term.name}.on={term.on!r} is not an output of this network, which has the outputs "
        f"{', '.join(['logits', *output.aux])}; give one of them, or turn the network's option aux on."
    )
