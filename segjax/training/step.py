"""One training step: augment, forward, loss, gradient, update. Pure; the caller jits it over a mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from segjax.errors import UserError
from segjax.ops import resize
from segjax.training.state import TrainState, update_ema
from segjax.typing import Array, Batch, SegOutput, Sum


@dataclass(frozen=True)
class LossTerm:
    """One named part of the loss.

    function: (logits (b, h, w, k), labels (b, h, w), *, epoch () int32) -> Sum.
    on: "logits", or the name of an auxiliary output, or "aux" for the mean over all of them.
    resize: bring auxiliary logits to the size of the labels, with align_corners or without; some losses do without.
    count_of_labels: the count of the Sum depends on the labels only, so that it is known before the network runs.
    """

    name: str
    function: Callable[..., Sum]
    weight: float = 1.0
    on: str = "logits"
    align_corners: bool = False
    resize: bool = True
    count_of_labels: bool = True


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


def _sums(term: LossTerm, output: SegOutput, labels: Array, epoch: Array) -> list[Sum]:
    heads = [
        head if head.shape[-3:-1] == labels.shape[-2:] or not term.resize
        else resize(head, labels.shape[-2:], align_corners=term.align_corners)
        for head in _heads(term, output)
    ]  # fmt: skip
    return [term.function(head, labels, epoch=epoch) for head in heads]


def total_loss(
    terms: tuple[LossTerm, ...],
    output: SegOutput,
    labels: Array,
    *,
    epoch: Array,
    counts: Mapping[str, Array] | None = None,
    share: Array | float = 1.0,
) -> tuple[Array, dict[str, Array]]:
    """Weighted sum of the terms' global means, () float32, and each term's own mean by name.

    For a part of a batch, what it adds to these: counts: of the whole batch, (heads,) by term, see `batch_counts`;
    share: weight of this part's own mean where a term is not among them.
    """
    means = {}
    for term in terms:
        sums = _sums(term, output, labels, epoch)
        if counts is not None and term.name in counts:
            parts = [Sum(s.value, count).mean() for s, count in zip(sums, counts[term.name], strict=True)]
        else:
            parts = [share * s.mean() for s in sums]
        means[term.name] = sum(parts) / len(parts)
    return sum(term.weight * means[term.name] for term in terms), means


def batch_counts(
    terms: tuple[LossTerm, ...], output: SegOutput, labels: Array, *, epoch: Array
) -> dict[str, jax.Array]:
    """What the values of each term's heads are divided by, (heads,) float32, summed over all parts of a batch.

    output: shapes of what the network returns for one part. labels: (parts, b, h, w) int. Terms whose count depends on
    the logits are left out.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output)  # XLA drops all that is computed of them
    known = [term for term in terms if term.count_of_labels]

    def one(part: Array) -> dict[str, jax.Array]:
        return {term.name: jnp.stack([s.count for s in _sums(term, zeros, part, epoch)]) for term in known}

    return jax.tree.map(lambda counts: counts.sum(0), jax.lax.map(one, labels))


def make_train_step(
    apply: Callable[..., Any],
    terms: tuple[LossTerm, ...],
    optimizer: optax.GradientTransformation,
    schedule: Callable[[Array], Array],
    augment: Callable[[Batch], tuple[Array, Array]],
    *,
    seed: int,
    accumulate_steps: int = 1,
    ema_decay: float = 0.0,
    ignore_label: int = 255,
    constrain: Callable[[Array], Array] = lambda x: x,
) -> Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, Array]]]:
    """Builds step(state, batch) -> (state, metrics).

    apply: (variables, images, *, train, rngs, mutable) -> (SegOutput, new collections), a flax module's apply.
    augment: uint8 batch -> (images (b, h, w, 3) float32, labels (b, h, w) int32).
    accumulate_steps: micro-batches a step is cut into. Their sums are divided by the counts of the whole batch, class
        weights included, so that the loss is its mean; BatchNorm statistics are those of each micro-batch. Where the
        count depends on the logits (OHEM, which also chooses its pixels within a micro-batch), a micro-batch counts by
        its share of the valid pixels.
    ignore_label: label of the pixels that do not count.
    constrain: places images and labels on the mesh after augmentation (image height over `space`).
    metrics: loss, every term by name, lr, grad_norm, param_norm (after the update); () float32 each, replicated.
    """

    def forward(params, batch_stats, images, key):
        variables = {"params": params, "batch_stats": batch_stats}
        return apply(variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

    def loss_fn(params, batch_stats, images, labels, epoch, key, counts=None, share=1.0):
        output, new = forward(params, batch_stats, images, key)
        loss, means = total_loss(terms, output, labels, epoch=epoch, counts=counts, share=share)
        return loss, (means, new.get("batch_stats", {}))

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def whole_batch(state, images, labels, epoch, key):
        (loss, (means, stats)), grads = grad_fn(state.params, state.batch_stats, images, labels, epoch, key)
        return loss, means, stats, grads

    def accumulated(state, images, labels, epoch, key):
        # b is split as (b/a, a): every device keeps rows of each micro-batch
        split = lambda x: x.reshape(-1, accumulate_steps, *x.shape[1:]).swapaxes(0, 1)  # noqa: E731
        images, labels = split(images), split(labels)
        share = jnp.sum(labels != ignore_label, axis=(1, 2, 3)).astype(jnp.float32)
        share = share / jnp.maximum(share.sum(), 1.0)
        output, _ = jax.eval_shape(forward, state.params, state.batch_stats, images[0], key)
        counts = batch_counts(terms, output, labels, epoch=epoch)

        def micro(carry, x):
            stats, grads, loss, means = carry
            image, label, part, index = x
            (l, (m, stats)), g = grad_fn(
                state.params, stats, constrain(image), constrain(label), epoch, jax.random.fold_in(key, index),
                counts, part,
            )  # fmt: skip
            grads, means = jax.tree.map(jnp.add, (grads, means), (g, m))
            return (stats, grads, loss + l, means), None

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        start = (state.batch_stats, zeros, jnp.zeros(()), {term.name: jnp.zeros(()) for term in terms})
        (stats, grads, loss, means), _ = jax.lax.scan(
            micro, start, (images, labels, share, jnp.arange(accumulate_steps))
        )
        return loss, means, stats, grads

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Mapping[str, Array]]:
        images, labels = map(constrain, augment(batch))
        epoch = batch["epoch"][0]
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        run = whole_batch if accumulate_steps == 1 else accumulated
        loss, means, batch_stats, grads = run(state, images, labels, epoch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_variables = {"params": params, "batch_stats": batch_stats}
        ema = update_ema(state.ema, new_variables, step=state.step, decay=ema_decay) if state.ema else state.ema
        norms = {"grad_norm": optax.global_norm(grads), "param_norm": optax.global_norm(params)}
        metrics = {"loss": loss, **means, "lr": schedule(state.step), **norms}
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return step
