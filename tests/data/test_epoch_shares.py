import numpy as np
import pytest

from segjax.data.centroids import concatenate
from segjax.data.epoch_plans import ClassPlan, Epoch, UniformPlan
from segjax.data.epoch_shares import EpochShares, describe_shares, epoch_shares
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


def test_shares_equal_counts():
    """Against a count of sample after sample."""
    epoch = ClassPlan(24, find_places("centroid", FakeSource(8)), 4, share=0.7, seed=1).build(2)
    parts = {"real": (0, 3), "more": (3, 5), "rest": (5, 24)}
    shares = epoch_shares(epoch, parts, "abcd")
    for name, (first, end) in parts.items():
        mine = [c for record, c in zip(epoch.records.tolist(), epoch.classes.tolist()) if first <= record < end]
        assert shares["parts"][name] == round(len(mine) / 24, 6)
        assert shares["anywhere"][name] == round(mine.count(-1) / 24, 6)
        assert [shares["classes"][c][name] for c in "abcd"] == [round(mine.count(c) / 24, 6) for c in range(4)]


class Alternating:
    """Epochs of 4 samples around class 0 of record 0, and of 2 of any place in record 1, in turn."""

    seed = 0

    def __init__(self):
        self.built = []

    def build(self, epoch):
        self.built.append(epoch)
        n = 2 if epoch % 2 else 4
        fill = dict(records=epoch % 2, places=0 - epoch % 2, classes=0 - epoch % 2)
        return Epoch(*(np.full((n, 2) if name == "places" else n, value, np.int32) for name, value in fill.items()))


def test_the_report_covers_all_epochs_also_those_before_it_was_resumed(caplog):
    plan = Alternating()
    shares = EpochShares(plan, {"real": (0, 1), "more": (1, 2)}, ("a", "b"))
    with caplog.at_level("INFO", logger="segjax"):
        shares.log_table(0)
        shares.log_line(0)
        shares.log_line(2)
        shares.log_line(3)
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1: 4 samples per epoch: real 100.0 %, more 0.0 %",
        "epoch 1:   anywhere real 0.0 %, more 0.0 %",
        "epoch 1:   a        real 100.0 %, more 0.0 %",
        "epoch 1:   b        real 0.0 %, more 0.0 %",
        "epoch 3: 4 samples per epoch: real 100.0 %, more 0.0 %",
        "epoch 3:   % around anywhere 0.0, a 100.0, b 0.0",
        "epoch 4: 2 samples per epoch: real 0.0 %, more 100.0 %",
    ]
    report = shares.report([0, 3], 4)
    assert sorted(plan.built) == [0, 1, 2, 3], "each epoch is built once"
    assert report["0"] == shares.shares(0) and report["3"] == shares.shares(3)
    nothing = {"real": [0, 0], "more": [0, 0]}
    assert report["all"] == {
        "epochs": 4, "samples": [2, 4], "parts": {"real": [0, 1], "more": [0, 1]},
        "anywhere": {"real": [0, 0], "more": [0, 1]}, "classes": {"a": {"real": [0, 1], "more": [0, 0]}, "b": nothing},
    }  # fmt: skip
