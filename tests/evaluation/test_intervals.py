"""t intervals of means and of paired differences, against scipy's own test and published quantiles."""

import math

import numpy as np
import pytest
import scipy.stats

from segjax.evaluation.intervals import Interval, deviation, paired_differences, t_interval


@pytest.mark.parametrize("count", [2, 3, 5, 12])
@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_the_interval_of_differences_is_that_of_the_paired_t_test(count, shift):
    rng = np.random.default_rng(count)
    base = rng.normal(50, 3, count)
    other = base + rng.normal(shift, 0.7, count)
    found = t_interval(list(paired_differences(dict(enumerate(other)), dict(enumerate(base))).values()))
    test = scipy.stats.ttest_rel(other, base)
    low, high = test.confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), (low, high), rtol=1e-9)
    assert found.mean == pytest.approx((other - base).mean()) and found.count == count
    assert (found.verdict == "contains 0") == (test.pvalue > 0.05)
    if found.verdict != "contains 0":
        assert found.verdict == ("above 0" if test.statistic > 0 else "below 0")


@pytest.mark.parametrize("count, quantile", [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (10, 2.262)])
def test_quantiles_of_the_tables(count, quantile):
    numbers = list(range(count))
    half_width = t_interval(numbers).half_width
    assert half_width * math.sqrt(count) / np.std(numbers, ddof=1) == pytest.approx(quantile, abs=5e-4)


def test_another_confidence():
    narrow, wide = (t_interval([1.0, 2.0, 4.0], confidence) for confidence in (0.5, 0.99))
    assert wide.half_width == pytest.approx(scipy.stats.t.ppf(0.995, 2) * scipy.stats.sem([1.0, 2.0, 4.0]))
    assert narrow.half_width < t_interval([1.0, 2.0, 4.0]).half_width < wide.half_width


def test_one_number_has_no_interval():
    assert t_interval([3.0]) == Interval(3.0, None, 1)
    assert (t_interval([3.0]).low, t_interval([3.0]).high, t_interval([3.0]).verdict) == (None, None, "")
    assert deviation([3.0]) is None and deviation([]) is None and deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_numbers_without_deviation():
    assert [t_interval([x, x]).verdict for x in (-0.1, 0.0, 0.1)] == ["below 0", "contains 0", "above 0"]


def test_only_what_both_have_is_paired():
    numbers, base = {0: 1.0, 1: None, 2: 5.0, 7: 3.0}, {2: 4.0, 1: 1.0, 0: 3.0, 8: 0.0}
    assert paired_differences(numbers, base) == {0: -2.0, 2: 1.0}
    assert paired_differences({0: 1.0}, {1: 1.0}) == paired_differences({0: 1.0}, {0: None}) == {}
