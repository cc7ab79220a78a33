"""One training step: prepares the batch, then forward, loss, gradient, update. Pure; the caller jits it over a mesh."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.models.heads import before_enlargement, enlarged
from segjax.training.part_losses import part_losses, terms_by_part, without_empty_parts
from segjax.training.state import TrainState
from segjax.training.terms import LossTerm, batch_counts, batch_shares, total_loss, with_cells
from segjax.training.update import Update
from segjax.typing import Array, Batch, Targets, Variables

Complete = Callable[[Variables, Targets], Targets]
Step = Callable[[TrainState, Batch, Any], tuple[TrainState, Mapping[str, Array]]]


def make_train_step(
    apply: Callable[..., Any],
    terms: tuple[LossTerm, ...],
    update: Update,
    prepare: Callable[[Batch, Any], tuple[Array, Targets]],
    *,
    seed: int,
    accumulate_steps: int = 1,
    constrain: Callable[[Array], Array] = lambda x: x,
    complete: Complete = lambda variables, targets: targets,
    parts: Sequence[str] = (),
    recompute_loss: bool = False,
) -> Step:
    """Builds step(state, batch, frozen) -> (state, metrics).

    apply: (variables, images, *, train, rngs, mutable) -> (SegOutput, new collections), a flax module's apply.
    terms: of the loss, see `loss_terms`.
    update: see `make_update`.
    prepare: (batch, frozen) -> (images (b, h, w, 3) float32, targets); see `Targets`.
    seed: of dropout.
    accumulate_steps: number of micro-batches of a step. Their sums are divided by the counts of the whole batch, class
        weights included, so that the loss is the mean over the batch. BatchNorm's statistics are those of each
        micro-batch. The count of OHEM depends on the logits: it chooses its pixels within a micro-batch, whose mean is
        weighted by its share of the valid pixels.
    constrain: places images and targets on the mesh after augmentation (image height over `space`).
    complete: (variables before the update, targets) -> targets, for labels that depend on the network itself.
    parts: names of the parts of the training data; with several, targets["part"] (b,) int32 has their numbers.
    recompute_loss: compute the loss and the enlargement of the logits again in the backward pass, so that no array of
        the images' size with all classes is kept; the segment "loss" of models/remat.py.

    frozen: variables of fixed networks for `prepare`, {} without any.
    metrics: loss, every term by name, lr, grad_norm, and param_norm after the update; () float32 each, replicated.
        With several parts also loss/PART, the loss of the same logits over the labelled pixels of that part. A mean
        over parts of which the batch has no labelled pixel is nan in the metrics, and adds 0 to the loss.

    The step raises UserError while it is traced, for a term on an output that the network does not have.
    """

    watched = terms_by_part(terms, parts)
    all_terms = (*terms, *itertools.chain.from_iterable(watched.values()))

    def forward(params, batch_stats, images, key):
        variables = {"params": params, "batch_stats": batch_stats}
        return apply(variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

    def loss_fn(params, batch_stats, images, targets, epoch, key, **divisors):
        output, new = forward(params, batch_stats, images, key)
        targets = with_cells(all_terms, output, targets)
        if recompute_loss:
            loss, means = jax.checkpoint(losses)(before_enlargement(output), targets, epoch, divisors)
        else:
            loss, means = losses(output, targets, epoch, divisors)
        return loss, (means, new.get("batch_stats", {}))

    def losses(output, targets, epoch, divisors):
        if recompute_loss:
            output = enlarged(output)
        loss, means = total_loss(terms, output, targets, epoch=epoch, **divisors)
        return loss, means | part_losses(watched, output, targets, epoch=epoch, **divisors)

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def whole_batch(state, images, targets, epoch, key):
        (loss, (means, stats)), grads = grad_fn(state.params, state.batch_stats, images, targets, epoch, key)
        return loss, means, stats, grads

    def accumulated(state, images, targets, epoch, key):
        # (b m), not (m b): each device keeps rows of every micro-batch, so that no row moves between devices
        images, targets = jax.tree.map(
            lambda x: rearrange(x, "(b m) ... -> m b ...", m=accumulate_steps), (images, targets)
        )
        shares = batch_shares(all_terms, targets)
        # divisors of the whole batch: in a mean of means, a micro-batch with many ignored pixels would have the weight
        # of the others
        output, _ = jax.eval_shape(forward, state.params, state.batch_stats, images[0], key)
        targets = with_cells(all_terms, output, targets)
        counts = batch_counts(all_terms, output, targets, epoch=epoch)

        def micro(carry, x):
            stats, grads, loss, means = carry
            image, target, share, index = x
            # pins the slices to the batch's placement on the mesh, which XLA would otherwise be free to change
            image, target = jax.tree.map(constrain, (image, target))
            # `stats`, not state.batch_stats: every micro-batch updates the running statistics, as a step would
            own_key = jax.random.fold_in(key, index)
            divisors = dict(counts=counts, shares=share)
            (l, (m, stats)), g = grad_fn(state.params, stats, image, target, epoch, own_key, **divisors)
            grads, means = jax.tree.map(jnp.add, (grads, means), (g, m))
            return (stats, grads, loss + l, means), None

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        names = [*(term.name for term in terms), *watched]
        start = (state.batch_stats, zeros, jnp.zeros(()), {name: jnp.zeros(()) for name in names})
        (stats, grads, loss, means), _ = jax.lax.scan(
            micro, start, (images, targets, shares, jnp.arange(accumulate_steps))
        )
        return loss, means, stats, grads

    def step(state: TrainState, batch: Batch, frozen: Any) -> tuple[TrainState, Mapping[str, Array]]:
        images, targets = jax.tree.map(constrain, prepare(batch, frozen))
        targets = complete(state.variables, targets)
        epoch = batch["epoch"][0]
        # dropout depends on (seed, step) only, so that a resumed run draws the same as an uninterrupted one
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        run = whole_batch if accumulate_steps == 1 else accumulated
        loss, means, batch_stats, grads = run(state, images, targets, epoch, key)
        state, metrics = update(state, grads, batch_stats)
        return state, {"loss": loss, **without_empty_parts(means, terms, watched, targets), **metrics}

    return step
