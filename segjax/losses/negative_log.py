"""-log of the probability of a class, or of a set of classes, per pixel: the part all losses share.

Written with own derivatives: the gradient is a difference of two softmaxes, which needs the logits once, no gather (whose
gradient is a scatter), and is finite for any finite logits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.windows import contains
from segjax.typing import Array

LOWEST = -3.0e38  # below every logit; -inf would give nan where a set is empty


def nll(logits: Array, labels: Array) -> Array:
    """-log softmax(logits)[label]. logits (..., k), labels (...) int; (...) float32. A label of no class gives 0."""
    return _nll(logits.astype(jnp.float32), labels.astype(jnp.int32))


@jax.custom_vjp
def _nll(logits, labels):
    return _nll_forward(logits, labels)[0]


def _nll_forward(logits, labels):
    k = logits.shape[-1]
    chosen = labels[..., None] == jnp.arange(k)
    top = logits.max(-1)
    log_sum = top + jnp.log(jnp.exp(logits - top[..., None]).sum(-1))
    real = (labels >= 0) & (labels < k)
    value = jnp.where(real, log_sum - jnp.where(chosen, logits, 0.0).sum(-1), 0.0)
    return value, (logits, labels, log_sum)


def _nll_backward(residuals, g):
    logits, labels, log_sum = residuals
    k = logits.shape[-1]
    chosen = labels[..., None] == jnp.arange(k)
    g = jnp.where((labels >= 0) & (labels < k), g, 0.0)
    grad = jnp.exp(logits - log_sum[..., None]) - chosen
    return grad * g[..., None], np.zeros(labels.shape, jax.dtypes.float0)


_nll.defvjp(_nll_forward, _nll_backward)


def set_nll(logits: Array, bits: Array) -> Array:
    """-log sum of softmax(logits) over a set of classes, by log-sum-exp over all minus log-sum-exp over the set.

    logits (..., h, w, k), bits (words, ..., h, w) uint32 of `ops.windows`; (..., h, w) float32. An empty set gives 0.
    """
    return _set_nll(logits.astype(jnp.float32), bits)


@jax.custom_vjp
def _set_nll(logits, bits):
    return _set_nll_forward(logits, bits)[0]


def _log_sum(x):
    top = x.max(-1)
    return top + jnp.log(jnp.exp(x - top[..., None]).sum(-1))


def _set_nll_forward(logits, bits):
    inside = contains(bits, logits.shape[-1])
    some = (bits != 0).any(0)
    log_all = _log_sum(logits)
    log_set = _log_sum(jnp.where(inside, logits, LOWEST))
    value = jnp.where(some, jnp.maximum(log_all - log_set, 0.0), 0.0)
    return value, (logits, bits, log_all, log_set)


def _set_nll_backward(residuals, g):
    logits, bits, log_all, log_set = residuals
    inside = contains(bits, logits.shape[-1])
    g = jnp.where((bits != 0).any(0), g, 0.0)
    of_set = jnp.exp(jnp.where(inside, logits - log_set[..., None], LOWEST))
    grad = jnp.exp(logits - log_all[..., None]) - of_set
    return grad * g[..., None], np.zeros(bits.shape, jax.dtypes.float0)


_set_nll.defvjp(_set_nll_forward, _set_nll_backward)
