"""-log of the softmax mass of one class, or of a set of classes, for every pixel: the core of the losses.

Each function makes as few passes over the logits as possible. Sums over classes are written class by class, so that XLA
makes a single loop over the pixels. On CPU that is 3x faster than reductions over the last axis, whose maximum must be
known before the sum can start. Values that a later pass needs once per pixel are fenced: otherwise XLA's CPU code
computes them again for each of the pixel's k logits. Gradients are written by hand: one exponential per logit, no
logarithm, no overflow, no gather.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from segjax.ops.fence import fenced
from segjax.ops.windows import has_class, set_size

LOWEST = -3.0e38  # below every logit, and finite: (LOWEST - LOWEST) is 0, not nan


@jax.custom_vjp
def nll(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns -log softmax(logits)[class], (...) float32 >= 0; 0 with zero gradient for a class outside 0..k-1.

    As exact for large logits as for small ones.

    logits: (..., k) float32, finite.
    classes: (...) int.
    """
    return _nll(logits, classes)[0]


def _nll(logits, classes):
    peak, log_sum = log_sum_exp(logits)
    own = _total(jnp.where(classes == c, x, 0.0) for c, x in enumerate(_per_class(logits)))
    value = jnp.where(_known(classes, logits), log_sum + (peak - own), 0.0)
    return value, (logits, classes, peak, log_sum)


def _nll_gradient(saved, g):
    logits, classes, peak, log_sum = saved
    g = jnp.where(_known(classes, logits), g, 0.0)
    # products with 0 and 1 instead of selects: three times faster in XLA's CPU code
    one_hot = (classes[..., None] == jnp.arange(logits.shape[-1], dtype=classes.dtype)).astype(logits.dtype)
    softmax = jnp.exp((logits - peak[..., None]) - log_sum[..., None])
    return g[..., None] * (softmax - one_hot), None


nll.defvjp(_nll, _nll_gradient)


@jax.custom_vjp
def soft_nll(logits: jax.Array, shares: jax.Array) -> jax.Array:
    """Returns -sum over classes of share * log softmax(logits), (...) float32; 0 with zero gradient if no share is set.

    As exact for large logits as for small ones. There is no gradient for the shares.

    logits: (..., k) float32, finite.
    shares: (..., k) float32, which sum to 1, or are all 0.
    """
    return _soft_nll(logits, shares)[0]


def _soft_nll(logits, shares):
    peak, log_sum = log_sum_exp(logits)
    pairs = list(zip(_per_class(shares), _per_class(logits), strict=True))
    away = _total(share * (peak - x) for share, x in pairs)
    return _total(share for share, _ in pairs) * log_sum + away, (logits, shares, peak, log_sum)


def _soft_nll_gradient(saved, g):
    logits, shares, peak, log_sum = saved
    softmax = jnp.exp((logits - peak[..., None]) - log_sum[..., None])
    return g[..., None] * (shares.sum(axis=-1, keepdims=True) * softmax - shares), None


soft_nll.defvjp(_soft_nll, _soft_nll_gradient)


@jax.custom_vjp
def set_nll(logits: jax.Array, sets: jax.Array) -> jax.Array:
    """Returns -log of the summed softmax of the classes in a set, (...) float32 >= 0 (VPLR, section 3.4, eq. 5).

    It is 0, with zero gradient, for an empty set. It is computed as log-sum-exp over all classes minus log-sum-exp over
    the set, not as the logarithm of probabilities. So value and gradient are right even if the set's probability
    underflows.

    logits: (..., k) float32, finite.
    sets: (words, ...) uint32, see `segjax.ops.windows.class_sets`.
    """
    return _set_nll(logits, sets)[0]


def _set_nll(logits, sets):
    peak, log_sum = log_sum_exp(logits)
    value = _all_minus_set(logits, sets, peak, log_sum)
    return value, (logits, sets, peak, log_sum, value)


@fenced
def _all_minus_set(logits, sets, peak, log_sum):
    k = logits.shape[-1]
    inside = [has_class(sets, c) > 0 for c in range(k)]
    set_peak = functools.reduce(jnp.maximum, [jnp.where(m, x, LOWEST) for m, x in zip(inside, _per_class(logits))])
    total = _total(jnp.where(m, jnp.exp(x - set_peak), 0.0) for m, x in zip(inside, _per_class(logits)))
    filled = set_size(sets, k) > 0
    value = (log_sum - jnp.log(jnp.where(filled, total, 1.0))) + (peak - set_peak)
    return jnp.where(filled, jnp.where(value < 0, 0.0, value), 0.0)  # rounding can fall below 0; nan must stay nan


def _set_nll_gradient(saved, g):
    """Returns softmax - softmax within the set, with one exponential for both.

    For a class in the set, with probability p and the set's mass S, the difference is (p / S) (S - 1), and
    p / S = exp(log p + nll) <= 1. For other classes it is p.
    """
    logits, sets, peak, log_sum, value = saved
    inside = _indicator(sets, logits.shape[-1]).astype(logits.dtype)
    g, outside = _once_per_pixel(sets, value, g, logits.shape[-1])
    scaled = jnp.exp((logits - peak[..., None]) - log_sum[..., None] + inside * value[..., None])
    return g[..., None] * scaled * (1.0 - inside * outside[..., None]), None


@functools.partial(fenced, static_argnums=3)
def _once_per_pixel(sets, value, g, k):
    """Returns (g, or 0 for an empty set; 2 - S)."""
    return jnp.where(set_size(sets, k) > 0, g, 0.0), 2.0 - jnp.exp(-value)


set_nll.defvjp(_set_nll, _set_nll_gradient)


@fenced
def log_sum_exp(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (peak, log of the sum of exp(logits - peak)) over the last axis of (..., k), (...) each.

    They stay separate: if the peak is large, their sum has no digits left for the second part.
    """
    per_class = _per_class(logits)
    peak = functools.reduce(jnp.maximum, per_class)
    return peak, jnp.log(_total(jnp.exp(x - peak) for x in per_class))


def _per_class(logits):
    return [logits[..., c] for c in range(logits.shape[-1])]


def _total(terms):
    return functools.reduce(jnp.add, terms)


def _known(classes, logits):
    return (classes >= 0) & (classes < logits.shape[-1])


def _indicator(sets, k):
    """Returns sets (words, ...) uint32 as (..., k) uint32 of 0 and 1."""
    parts = [
        (sets[j][..., None] >> jnp.arange(min(32, k - 32 * j), dtype=jnp.uint32)) & 1 for j in range((k + 31) // 32)
    ]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
