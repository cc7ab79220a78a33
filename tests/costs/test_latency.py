"""Small all-reduces in a report: counted always, mentioned if they would take longer than the largest bound."""

import dataclasses

import pytest

from segjax.costs.bounds import bounds
from segjax.costs.chips import CHIPS
from segjax.costs.collectives import Collective, Total
from segjax.costs.latency import ASSUMED, SMALL, dominates, groups_to_take, report, sentence, small_all_reduces
from segjax.costs.program import ProgramCosts, cost_rows

LEAST = bounds(CHIPS["v5e"], flops=197e9, accessed=1.0, sent=1.0, link=1e9, images=1)  # 1 ms


def one(kind="all-reduce", payload=256, times=1):
    return Collective(kind, (f"f32[{payload // 4}]",), payload, 4, times, "norm")


def test_only_small_all_reduces_count_as_often_as_they_run():
    found = [one(), one(payload=SMALL - 4, times=3), one(payload=SMALL), one("all-gather"), one("collective-permute")]
    small = small_all_reduces(found)
    assert (small.count, small.payload) == (4, 256 + 3 * (SMALL - 4))
    assert small_all_reduces([one(payload=SMALL)]) == Total(0, 0, 0.0)


@pytest.mark.parametrize("count, said", [(100, False), (102, True)])
def test_they_dominate_if_they_take_longer_than_the_largest_bound(count, said):
    small = small_all_reduces([one(times=count)])
    assert dominates(small, LEAST) is said and bool(sentence(small, LEAST)) is said
    assert dominates(small, None) is None and sentence(small, None) == ""
    found = report(small, LEAST)
    assert (found["count"], found["dominate"], found["assumed_seconds"]) == (count, said, count * ASSUMED)


def test_the_sentence_has_the_count_the_assumption_and_the_option():
    small = small_all_reduces([one(times=163)])
    text = sentence(small, LEAST, option="train.model.options.bn_groups", groups=4)
    assert text == (
        "163 all-reduces of less than 64 KiB will dominate: their latency is in no bound, also not in that by links; "
        "at 10 us each, an assumption, it is 1.63 ms; with train.model.options.bn_groups=4 batch norms send nothing "
        "along the axis data before the end of the step"
    )
    assert sentence(small, LEAST).endswith("it is 1.63 ms")


@pytest.mark.parametrize(
    "own, mesh, groups",
    [
        (1, {"data": 4, "space": 1}, 4),
        (2, {"data": 4}, 4),
        (4, {"data": 4}, 0),
        (8, {"data": 4, "space": 2}, 0),
        (1, {"data": 2, "space": 2}, 0),  # devices that share images exchange their statistics in any case
        (1, {"data": 1, "space": 4}, 0),
        (None, {"data": 4}, 0),
    ],
)
def test_the_groups_are_those_of_the_parts_of_a_batch(own, mesh, groups):
    assert groups_to_take(own, mesh) == groups


def test_no_bound_contains_a_latency():
    few, many = (
        ProgramCosts(0.0, 0.0, {"all-reduce": small}, (), small)
        for small in (small_all_reduces([one(times=times)]) for times in (1, 1000))
    )
    rows = [dict(cost_rows(costs, LEAST, chip="v5e", option="bn_groups", groups=4)) for costs in (few, many)]
    assert "latency" not in rows[0] and "bn_groups=4" in rows[1]["latency"]
    assert rows[1]["below 64 KiB"] == "1000, together 250.0 KiB"
    assert all(rows[0][name] == rows[1][name] for name in rows[0] if name.startswith("at least, by"))
    assert dataclasses.asdict(LEAST)["links"] == 1e-9
