"""Means of few numbers with their t interval, and differences of pairs.

Two methods that were run with the same seeds are compared by their differences: what a seed does to both cancels.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence

from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """The mean of independent numbers, and the t interval of the mean behind them.

    mean: of the numbers.
    half_width: half the length of the interval, None for a single number. It is also the power of the experiment: a
        mean of this size or more would exclude 0.
    count: how many numbers.
    """

    mean: float
    half_width: float | None
    count: int

    @property
    def low(self) -> float | None:
        """Lower end, None for a single number."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """Upper end, None for a single number."""
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def verdict(self) -> str:
        """Where the interval lies: "above 0", "contains 0" or "below 0"; "" for a single number."""
        if self.low is None or self.high is None:
            return ""
        return "above 0" if self.low > 0 else "below 0" if self.high < 0 else "contains 0"


def deviation(numbers: Sequence[float]) -> float | None:
    """Returns the sample standard deviation, None for fewer than two numbers."""
    return statistics.stdev(numbers) if len(numbers) > 1 else None


def t_interval(numbers: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Returns mean and t interval (Student 1908) of one or more numbers that are normally distributed.

    confidence: share of such intervals that contain the true mean, 0..1.
    """
    count, spread = len(numbers), deviation(numbers)
    mean = statistics.fmean(numbers)
    if spread is None:
        return Interval(mean, None, count)
    quantile = float(stdtrit(count - 1, (1 + confidence) / 2))  # that of scipy.stats.t, which takes 1 s to import
    return Interval(mean, quantile * spread / math.sqrt(count), count)


def paired_differences(
    numbers: Mapping[Hashable, float | None], baseline: Mapping[Hashable, float | None]
) -> dict[Hashable, float]:
    """Returns numbers - baseline of the keys that both have; None counts as absent.

    numbers, baseline: number of each run, by what pairs them, such as the seed.
    """
    return {
        key: number - other
        for key, number in numbers.items()
        if number is not None and (other := baseline.get(key)) is not None
    }
