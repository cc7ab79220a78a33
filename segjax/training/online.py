"""Labels that the network in training gives to unlabelled images itself: consistency regularisation (CSST, eq. 4).

CSST does not say how such labels are made. Here they are a guess: those of the current parameters in evaluation mode
(running statistics, no dropout), on the same crop as in the training, before jitter and blur.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from segjax.losses.negative_log import log_sum_exp
from segjax.training.step import Complete
from segjax.typing import Array, Targets, Variables


def label_online(
    apply: Callable[..., Any],
    thresholds: Mapping[int, Sequence[float]],
    *,
    micro_batches: int = 1,
    ignore_label: int = 255,
) -> Complete:
    """Builds complete(variables, targets) -> targets, in which the examples of some parts have the network's labels.

    The label of a pixel is the most probable class. It is ignored if its softmax probability is below the threshold of
    the class, and in padding. Labels are constants: the step computes no gradient through them. Every example of the
    batch passes through the network, because the number of those that need it differs from batch to batch.

    apply: (variables, images, *, train) -> SegOutput, a flax module's apply.
    thresholds: number of the part -> probability (k,) of each class.
    micro_batches: number of equal parts of the batch that pass through the network one after the other.
    ignore_label: label of pixels that do not count.

    targets: with labels, part, and `plain` and `inside` of `augment.augment_batch`, which the result lacks. Soft labels
        become those of one class with probability 1.
    """
    numbers = np.array(sorted(thresholds), np.int32)
    none = [0.0] * len(thresholds[int(numbers[0])])
    by_part = np.array([thresholds.get(number, none) for number in range(numbers[-1] + 1)], np.float32)

    def own_labels(variables: Variables, images: Array, part: Array) -> Array:
        logits = apply(variables, images, train=False).logits
        ids = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        probability = jnp.exp(-log_sum_exp(logits)[1])  # of the largest logit
        by_class = jnp.take(by_part, part, axis=0, mode="clip")[:, None, None]  # the labels of other parts are not used
        least = jnp.sum(jnp.where(ids[..., None] == jnp.arange(logits.shape[-1]), by_class, 0.0), axis=-1)
        return jnp.where(probability >= least, ids, ignore_label)

    def all_labels(variables: Variables, images: Array, part: Array) -> Array:
        if micro_batches == 1:
            return own_labels(variables, images, part)
        # (b m), as in the step: no row moves between devices
        images, part = (rearrange(x, "(b m) ... -> m b ...", m=micro_batches) for x in (images, part))
        labels = jax.lax.map(lambda x: own_labels(variables, *x), (images, part))
        return rearrange(labels, "m b ... -> (b m) ...")

    def complete(variables: Variables, targets: Targets) -> Targets:
        targets = dict(targets)
        plain, inside = targets.pop("plain"), targets.pop("inside")
        mine = (targets["part"][:, None] == numbers).any(axis=1)[:, None, None]
        labels = jnp.where(inside, all_labels(variables, plain, targets["part"]), ignore_label)
        if "soft_ids" in targets:
            first = jnp.arange(targets["soft_ids"].shape[-1]) == 0
            one = {
                "soft_ids": jnp.where(first, labels[..., None], ignore_label),
                "soft_shares": first.astype(jnp.float32),
            }
            targets |= {name: jnp.where(mine[..., None], value, targets[name]) for name, value in one.items()}
        return {**targets, "labels": jnp.where(mine, labels, targets["labels"])}

    return complete
