import pytest

from segjax.data.centroids import concatenate
from segjax.data.epoch_plans import ClassPlan, UniformPlan
from segjax.data.epoch_shares import describe_shares, epoch_shares
from segjax.data.extra import find_places
from tests.data.fake_source import FakeSource


def test_shares_add_up():
    source = FakeSource(8)
    found = find_places("class_uniform", source, tile=16)
    plan = ClassPlan(24, concatenate([found, found.moved(8), found.moved(16)]), 4, share=0.5)
    shares = epoch_shares(plan.build(0), {"real": (0, 8), "propagated": (8, 24)}, source.class_names)
    assert shares["samples"] == 24 and sum(shares["parts"].values()) == pytest.approx(1)
    assert sum(shares["anywhere"].values()) == pytest.approx(0.5)
    assert all(sum(row.values()) == pytest.approx(0.125) for row in shares["classes"].values())
    assert shares["parts"]["propagated"] > 0.5
    lines = describe_shares(shares)
    assert len(lines) == 6 and lines[0].startswith("24 samples per epoch: real ") and lines[2].startswith("  a")
    assert len(describe_shares(epoch_shares(UniformPlan(8).build(0), {"real": (0, 8)}, "abcd"))) == 1
