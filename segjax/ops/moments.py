"""Means and squared deviations that add up exactly, of arrays on the device and in numpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from segjax.ops.batch_norm import batch_moments
from segjax.typing import Array


class Moments(NamedTuple):
    """Moments of values by channel.

    count: number of values of each channel, a number.
    mean: (..., c).
    squares: sum of the squared deviations from the mean, (..., c); squares / count is the variance.
    """

    count: Any
    mean: Array
    squares: Array

    def __add__(self, other: Moments) -> Moments:
        """Returns the moments of the values of both (Chan et al., The American Statistician 1983); one may be empty."""
        count = self.count + other.count
        share = other.count / (count + (count == 0))  # 0 of nothing, without a division by 0
        step = other.mean - self.mean
        return Moments(count, self.mean + step * share, self.squares + other.squares + step * step * self.count * share)


def example_moments(x: Array) -> Moments:
    """Returns the moments of each example of x (b, ..., c), with means (b, c), in float32 or wider."""
    count = x.size // (x.shape[0] * x.shape[-1])
    mean, variance = jax.vmap(batch_moments)(x)
    return Moments(count, mean, variance * count)
