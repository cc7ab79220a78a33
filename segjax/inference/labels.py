"""Labels of images: class ids, confidence, entropy and the most probable classes, all from one forward pass."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from segjax import parallel
from segjax.inference.views import check_finite, is_one_view, predict
from segjax.models.heads import before_enlargement
from segjax.ops import resize_argmax
from segjax.ops.resize_argmax import ids_dtype
from segjax.typing import Array, SegOutput, Variables

LAST = 2**30  # above the index of every class


class Labels(NamedTuple):
    """Labels of a batch of images; None for what was not requested.

    ids: most probable class of each pixel, (b, h, w) uint8, int32 for more than 255 classes. Of equals, the first.
    confidence: probability of that class, (b, h, w) float32, 0 to 1.
    top_ids: the k most probable classes, the most probable first, (b, h, w, k), dtype of ids. top_ids[..., 0] is ids.
    top_shares: their probabilities in 255ths, rounded, (b, h, w, k) uint8.
    entropy: of the probabilities of all classes, as a share of log(number of classes), (b, h, w) float32, 0 to 1.
    """

    ids: Array
    confidence: Array | None = None
    top_ids: Array | None = None
    top_shares: Array | None = None
    entropy: Array | None = None


def labels_of(
    scores: Array, *, probabilities: bool = False, confidence: bool = False, top_k: int = 0, entropy: bool = False
) -> Labels:
    """Returns the labels of logits, or of probabilities.

    Each result is a reduction over the classes, computed in float32. No array but the scores has their size.

    scores: (b, h, w, c), logits or probabilities.
    probabilities: whether the scores are probabilities.
    confidence: whether to compute the confidence.
    top_k: number of most probable classes, 0 for none.
    entropy: whether to compute the entropy.
    """
    classes = scores.shape[-1]
    if not 0 <= top_k <= classes:
        raise ValueError(f"top_k={top_k} must be from 0 to the number of classes, {classes}")
    dtype = ids_dtype(classes)
    if not (confidence or top_k or entropy):
        return Labels(jnp.argmax(scores, axis=-1).astype(dtype))

    # XLA may compute the scores anew for each reduction, rounded differently. So no class is found by comparing scores
    # of two reductions, and probabilities are limited to 1.
    scores = scores.astype(jnp.float32)
    highest, first = jnp.max(scores, axis=-1), jnp.argmax(scores, axis=-1)
    total = None if probabilities else jnp.sum(jnp.exp(scores - highest[..., None]), axis=-1)

    def share(values: Array) -> Array:  # the softmax of logits, without the array of all classes
        return jnp.minimum(values if probabilities else jnp.exp(values - highest) / total, 1)

    labels = Labels(
        first.astype(dtype),
        confidence=share(highest) if confidence else None,
        entropy=_entropy(scores, highest, total) if entropy else None,
    )
    if not top_k:
        return labels
    ranked = _ranked(scores, highest, first, top_k)
    shares = jnp.stack([share(values) for values, _ in ranked], axis=-1)
    return labels._replace(
        top_ids=jnp.stack([index.astype(dtype) for _, index in ranked], axis=-1),
        top_shares=jnp.round(255 * shares).astype(jnp.uint8),
    )


def _entropy(scores: Array, highest: Array, total: Array | None) -> Array:
    """Returns the entropy (b, h, w) of the probabilities p: -sum p log(p) / log(c), 0 for a single class.

    scores: logits, or probabilities if there is no total.
    highest, total: (b, h, w), the highest logit z0 and the sum of exp(z - z0); then -sum p log(p) is
        log(total) - sum (z - z0) exp(z - z0) / total, which takes no logarithm of a small number.
    """
    classes = scores.shape[-1]
    if classes == 1:
        return jnp.zeros(scores.shape[:-1], jnp.float32)
    if total is None:
        nats = -jnp.sum(jnp.where(scores > 0, scores * jnp.log(scores), 0), axis=-1)
    else:
        below = scores - highest[..., None]
        share = jnp.exp(below)
        nats = jnp.log(total) - jnp.sum(jnp.where(share > 0, below * share, 0), axis=-1) / total
    return jnp.clip(nats / math.log(classes), 0, 1)


def _ranked(scores: Array, highest: Array, first: Array, count: int) -> list[tuple[Array, Array]]:
    """Returns the `count` highest scores (b, h, w) and their classes, the highest first; of equals, the lower class.

    `lax.top_k` sorts copies of the scores, which takes several times as long for a few of some 20 classes. It also
    ranks 0.0 above -0.0, which are equal for argmax.

    highest, first: the highest scores and their classes.
    """
    classes = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    ranked = [(highest, first.astype(jnp.int32))]
    for _ in range(count - 1):
        left = functools.reduce(operator.and_, (classes != index[..., None] for _, index in ranked))
        pair = jnp.where(left, scores, -jnp.inf), jnp.where(left, classes, LAST)
        ranked.append(tuple(lax.reduce(pair, (jnp.float32(-jnp.inf), jnp.int32(LAST)), _higher, (scores.ndim - 1,))))
    return ranked


def _higher(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    """Returns the (score, class) of the higher score; of equals, that of the lower class."""
    mine = (one[0] > other[0]) | ((one[0] == other[0]) & (one[1] < other[1]))
    return jnp.where(mine, one[0], other[0]), jnp.where(mine, one[1], other[1])


def labeller(
    apply_fn: Callable[[Variables, Array], Array | SegOutput],
    variables: Variables,
    *,
    normalise: Callable[[Array], Array],
    confidence: bool = False,
    top_k: int = 0,
    entropy: bool = False,
    **protocol: Any,
) -> Callable[[Array], Labels]:
    """Returns a function RGB images uint8 (b, h, w, 3) -> Labels.

    The batch is split over the devices of this process, see `parallel.over_local_devices`. The probabilities are the
    softmax of the mean logits over the views, or the mean probabilities if average="probabilities". Each image shape
    compiles once.

    apply_fn: (variables, images float32) -> logits, or the output of a network.
    variables: of the network.
    normalise: images uint8 -> float32, on the device.
    confidence, top_k, entropy: see `labels_of`.
    protocol: keyword arguments of `views.predict`; see protocols.py.

    The returned function raises UserError as `views.predict` does.
    """
    if confidence or top_k or entropy:
        requested = dict(confidence=confidence, top_k=top_k, entropy=entropy)
        label = functools.partial(labels_of, probabilities=protocol.get("average") == "probabilities", **requested)
        # A program of its own: in one program with the network, XLA computes the last enlargement of the logits anew
        # for each reduction over them.
        network, finish = averager(apply_fn, normalise=normalise, **protocol), jax.jit(label)
    else:
        network, finish = predictor(apply_fn, normalise=normalise, **protocol), Labels
    run = parallel.over_local_devices(network, variables)

    def checked(images: Array) -> Labels:
        check_finite(images)  # the parts of a batch have no values when they are traced
        return finish(run(images))

    return checked


def averager(
    apply_fn: Callable[[Variables, Array], Any], *, normalise: Callable[[Array], Array], **protocol: Any
) -> Callable[[Variables, Array], jax.Array]:
    """Returns a jitted function (variables, RGB images uint8 (b, h, w, 3)) -> result of `views.predict`.

    apply_fn, normalise, protocol: see `labeller`.
    """

    @jax.jit
    def average(variables, images):
        return predict(lambda x: _logits(apply_fn(variables, x)), normalise(images), **protocol)

    return average


def _logits(result: Any) -> Any:
    return result.logits if isinstance(result, SegOutput) else result


def predictor(
    apply_fn: Callable[[Variables, Array], Any],
    *,
    normalise: Callable[[Array], Array],
    classes: Sequence[int] = (),
    **protocol: Any,
) -> Callable[[Variables, Array], jax.Array]:
    """Returns a jitted function (variables, RGB images uint8 (b, h, w, 3)) -> class ids (b, h, w).

    The ids are those of `Labels`. Each image shape compiles once. From one view and the output of a network, they are
    computed without the enlarged logits, see `ops.resize_argmax`.

    apply_fn: see `labeller`; of a tree of logits, the result is a tree of class ids.
    normalise, protocol: see `labeller`.
    classes: of the network, among which the most probable one is sought; the ids are places in them. () = all.

    The returned function raises UserError as `views.predict` does.
    """
    average = averager(apply_fn, normalise=normalise, **protocol)

    def among(scores: Array) -> Array:
        return scores[..., jnp.array(classes)] if classes else scores

    @jax.jit
    def class_ids(variables, images):
        if is_one_view(**protocol):
            output = apply_fn(variables, normalise(images))
            if isinstance(output, SegOutput) and output.enlargement is not None:
                return _ids_of_coarse(output, among)
        return jax.tree.map(lambda scores: labels_of(among(scores)).ids, average(variables, images))

    def checked(variables, images):
        check_finite(images)
        return class_ids(variables, images)

    return checked


def _ids_of_coarse(output: SegOutput, among: Callable[[Array], Array]) -> Array:
    """Returns the class ids (b, h, w) of a network's output, from its logits before they are enlarged."""
    rule = output.enlargement
    coarse = among(before_enlargement(output).logits)
    ids = resize_argmax(coarse, rule.padded or rule.size, align_corners=rule.align_corners)
    return ids[:, : rule.size[0], : rule.size[1]]
