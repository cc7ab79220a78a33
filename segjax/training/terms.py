"""The terms of a loss: which function of which output of the network, with which weight."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from segjax import losses
from segjax.errors import UserError
from segjax.ops import resize
from segjax.typing import Array, SegOutput, Sum, Targets


@dataclass(frozen=True)
class LossTerm:
    """One named part of the loss.

    function: (logits (b, h, w, k), targets, *, epoch () int32) -> Sum; targets["labels"]: (b, h, w) int.
    on: "logits", or the name of an auxiliary output, or "aux" for the mean over all of them.
    resize: whether logits are enlarged to the size of the labels first, with align_corners or without.
    count_of_labels: the count of the Sum depends on the targets only, so that it is known before the network runs.
    """

    name: str
    function: Callable[..., Sum]
    weight: float = 1.0
    on: str = "logits"
    align_corners: bool = False
    resize: bool = True
    count_of_labels: bool = True


@dataclass(frozen=True, kw_only=True)
class TermOptions:
    """A term as a recipe has it.

    name: a key of `losses.LOSSES`. on: an output of the network; "aux", the mean over its auxiliary heads; or "heads",
    all of its outputs with the weights they were published with. options: of the loss.
    """

    name: str
    on: str = "heads"
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    align_corners: bool = False


def loss_terms(
    terms: Mapping[str, TermOptions],
    loss_weights: Mapping[str, float],
    *,
    ignore_label: int = 255,
    loss_names: Mapping[str, str] | None = None,
) -> tuple[LossTerm, ...]:
    """Builds the terms of `train.loss`, in the order of their names; those on "heads" are called NAME and NAME.HEAD.

    loss_weights: output -> published weight. loss_names: outputs that are no map (EncNet's "se") -> the loss that
    "heads" uses there instead, without options.
    """
    found, loss_names = [], loss_names or {}
    for key in sorted(terms):
        term = terms[key]
        for head, share in (loss_weights if term.on == "heads" else {term.on: 1.0}).items():
            own = loss_names.get(head) if term.on == "heads" else None
            loss = own or term.name
            function = losses.OUTPUT_LOSSES[own] if own else losses.LOSSES[loss]
            found.append(
                LossTerm(
                    name=f"{key}.{head}" if term.on == "heads" and head != "logits" else key,
                    function=_of_labels(function, ignore_label, {} if own else term.options),
                    weight=term.weight * share,
                    on=head,
                    align_corners=term.align_corners,
                    resize=loss not in losses.AT_LOGIT_SIZE,
                    count_of_labels=loss not in losses.COUNT_OF_LOGITS,
                )
            )
    return tuple(found)


def _of_labels(loss: Callable[..., Sum], ignore_label: int, options: Mapping[str, Any]) -> Callable[..., Sum]:
    loss = functools.partial(loss, ignore_label=ignore_label, **options)
    if "epoch" in inspect.signature(loss).parameters:
        return lambda logits, targets, *, epoch: loss(logits, targets["labels"], epoch=epoch)
    return lambda logits, targets, *, epoch: loss(logits, targets["labels"])


def total_loss(
    terms: tuple[LossTerm, ...],
    output: SegOutput,
    targets: Targets,
    *,
    epoch: Array,
    counts: Mapping[str, Array] | None = None,
    share: Array | float = 1.0,
) -> tuple[Array, dict[str, Array]]:
    """Returns the weighted sum of the terms' global means, () float32, and each term's own mean by name.

    For a part of a batch, what it adds to these: counts: of the whole batch, (heads,) by term, see `batch_counts`;
    share: weight of this part's own mean when a term is not among them.
    Raises UserError for a term on an output that the network does not have.
    """
    means = {}
    for term in terms:
        sums = _sums(term, output, targets, epoch)
        if counts is not None and term.name in counts:
            parts = [Sum(s.value, count).mean() for s, count in zip(sums, counts[term.name], strict=True)]
        else:
            parts = [share * s.mean() for s in sums]
        means[term.name] = sum(parts) / len(parts)
    return sum(term.weight * means[term.name] for term in terms), means


def batch_counts(
    terms: tuple[LossTerm, ...], output: SegOutput, targets: Targets, *, epoch: Array
) -> dict[str, jax.Array]:
    """Returns what the values of each term's heads are divided by, (heads,) float32, summed over the parts of a batch.

    output: shapes of what the network returns for one part. targets: arrays (parts, b, ...). Terms whose count depends
    on the logits are not in the result.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output)  # XLA drops all that is computed of them
    known = [term for term in terms if term.count_of_labels]

    def one(part: Targets) -> dict[str, jax.Array]:
        return {term.name: jnp.stack([s.count for s in _sums(term, zeros, part, epoch)]) for term in known}

    return jax.tree.map(lambda counts: counts.sum(0), jax.lax.map(one, targets))


def _sums(term: LossTerm, output: SegOutput, targets: Targets, epoch: Array) -> list[Sum]:
    size = targets["labels"].shape[-2:]
    heads = [
        head if head.shape[-3:-1] == size or not term.resize else resize(head, size, align_corners=term.align_corners)
        for head in _heads(term, output)
    ]
    return [term.function(head, targets, epoch=epoch) for head in heads]


def _heads(term: LossTerm, output: SegOutput) -> list[Array]:
    if term.on == "logits":
        return [output.logits]
    if term.on == "aux" and output.aux:
        return [head for head in output.aux.values() if head.ndim == output.logits.ndim]  # maps only
    if term.on in output.aux:
        return [output.aux[term.on]]
    raise UserError(
        f"loss.{term.name}.on={term.on!r} is not an output of this network, which has the outputs "
        f"{', '.join(['logits', *output.aux])}; give one of them, or turn the network's option aux on."
    )
