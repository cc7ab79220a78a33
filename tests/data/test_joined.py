"""Several sources as one, what an epoch of them is made of, and the epoch at which the extra data ends."""

import numpy as np
import pytest

from segjax.data import plans
from segjax.data.epoch_shares import describe_shares, epoch_shares
from segjax.data.joined import Joined, Subset
from segjax.data.plans import ClassPlan, CutPlan, UniformPlan
from segjax.data.timeline import Timeline
from segjax.errors import UserError
from tests.data.fake_source import FakeSource


class Source(FakeSource):
    """With the label map that joined sources take their classes from."""

    @property
    def label_map(self):
        from segjax.data.label_map import LabelMap

        return LabelMap.identity(self.class_names, self.palette)


def test_joined_sources_follow_each_other():
    joined = Joined([Source(3), Source(4, sizes=((8, 9),)), Subset(Source(6, shift=1), np.array([5, 2]))])
    assert len(joined) == 9 and joined.offsets.tolist() == [0, 3, 7, 9] and joined.num_classes == 4
    assert joined.names == ["fake-0", "fake-1", "fake-2", "fake-0", "fake-1", "fake-2", "fake-3", "fake-5", "fake-2"]
    assert joined.sizes.tolist() == [[24, 32]] * 3 + [[8, 9]] * 4 + [[24, 32]] * 2
    assert joined[2].image[0, 0, 2] == 2 and joined[3].image.shape == (8, 9, 3) and joined[7].frame == 5
    with pytest.raises(IndexError):
        joined[9]
    with pytest.raises(UserError, match="same classes"):
        Joined([Source(2), Source(2, num_classes=3)])


def test_shares_add_up():
    source = Source(8)
    found = plans.find_places("class_uniform", source, tile=16)
    plan = ClassPlan(24, plans.concatenate([found, found.moved(8), found.moved(16)]), 4, share=0.5)
    shares = epoch_shares(plan.build(0), {"real": (0, 8), "propagated": (8, 24)}, source.class_names)
    assert shares["samples"] == 24 and sum(shares["parts"].values()) == pytest.approx(1)
    assert sum(shares["anywhere"].values()) == pytest.approx(0.5)
    assert all(sum(row.values()) == pytest.approx(0.125) for row in shares["classes"].values())
    assert shares["parts"]["propagated"] > 0.5
    lines = describe_shares(shares)
    assert len(lines) == 6 and lines[0].startswith("24 samples per epoch: real ") and lines[2].startswith("  a")
    assert len(describe_shares(epoch_shares(UniformPlan(8).build(0), {"real": (0, 8)}, "abcd"))) == 1


def test_after_the_cut_only_real_records_are_shown_and_epochs_are_shorter():
    plan = CutPlan(UniformPlan(12, seed=1), UniformPlan(4, seed=1), epoch=2)
    assert [plan.length_of(e) for e in range(5)] == [12, 12, 12, 4, 4]
    assert plan.build(2).records.max() == 11 and sorted(plan.build(3).records) == [0, 1, 2, 3]
    assert plan.seed == 1 and plan.length == 12
    timeline = Timeline([plan.length_of(e) for e in range(5)], [((8, 8), 4)] * 5)
    assert timeline.total_steps == 11 and [timeline.epoch_start(e) for e in range(6)] == [0, 3, 6, 9, 10, 11]
    assert timeline.at(9).epoch == 3 and timeline.progress(10) == 4
    with pytest.raises(UserError, match="batch_size=5"):
        Timeline([12, 4], [((8, 8), 5)] * 2)
    with pytest.raises(ValueError, match="2 lengths for 3 epochs"):
        Timeline([12, 4], [((8, 8), 2)] * 3)
