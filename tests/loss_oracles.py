"""The losses' formulas in float64 numpy, pixel by pixel, and random street-like cases."""

from __future__ import annotations

import numpy as np


def blocks(seed: int, shape=(2, 8, 10), classes: int = 5, void: float = 0.2, ignore_label: int = 255) -> np.ndarray:
    """Labels (b, h, w) uint8 in 2x2 blocks, so that there are boundaries as well as insides."""
    rng = np.random.default_rng(seed)
    b, h, w = shape
    small = rng.integers(0, classes, (b, -(-h // 2), -(-w // 2)))
    small = np.where(rng.random(small.shape) < void, ignore_label, small)
    return small.repeat(2, 1).repeat(2, 2)[:, :h, :w].astype(np.uint8)


def noise(seed: int, shape, scale: float = 3.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def log_softmax(logits) -> np.ndarray:
    x = np.asarray(logits, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def window_sets(labels, k, window=3, ignore_label=255) -> np.ndarray:
    """(b, h, w, k + 1) bool; the last channel is void, or outside the image, seen in the window."""
    b, h, w = labels.shape
    ids = np.where((labels == ignore_label) | (labels >= k), k, labels).astype(int)
    result, r = np.zeros((b, h, w, k + 1), bool), window // 2
    for i, y, x in np.ndindex(b, h, w):
        for dy in range(-r, r + 1):
            for dx in range(-r, r + 1):
                inside = 0 <= y + dy < h and 0 <= x + dx < w
                result[i, y, x, ids[i, y + dy, x + dx] if inside else k] = True
    return result


def boundaries(labels) -> np.ndarray:
    """4-connected boundaries, both sides; (b, h, w) bool."""
    b, h, w = labels.shape
    result = np.zeros(labels.shape, bool)
    for i, y, x in np.ndindex(b, h, w):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= y + dy < h and 0 <= x + dx < w and labels[i, y, x] != labels[i, y + dy, x + dx]:
                result[i, y, x] = True
    return result


def set_nll(logits, members) -> np.ndarray:
    """-log of the mass of each set; logits (..., k), members (..., k) bool; 0 where the set is empty."""
    log_p = log_softmax(logits)
    chosen = np.where(members, log_p, -np.inf)
    top = chosen.max(-1)
    filled = np.isfinite(top)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = -(top + np.log(np.exp(chosen - np.where(filled, top, 0)[..., None]).sum(-1)))
    return np.where(filled, value, 0.0)


def set_nll_gradient(logits, members) -> np.ndarray:
    """Softmax over all minus softmax over the set; 0 for empty sets."""
    log_p = log_softmax(logits)
    of_set = np.where(members, np.exp(np.minimum(log_p + set_nll(logits, members)[..., None], 0.0)), 0.0)
    return np.where(members.any(-1, keepdims=True), np.exp(log_p) - of_set, 0.0)


def one_hot(labels, k, ignore_label=255) -> np.ndarray:
    return (labels[..., None] == np.arange(k)) & (labels != ignore_label)[..., None]


def differences(function, x, step=1e-5) -> np.ndarray:
    """Gradient of a float64 function by central differences."""
    x = np.asarray(x, np.float64)
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] += step
        above = function(moved)
        moved[index] -= 2 * step
        gradient[index] = (above - function(moved)) / (2 * step)
    return gradient
