import numpy as np
import pytest

from segjax.data import plans
from segjax.data.centroids import Centroids
from segjax.data.epoch_plans import ClassPlan, CutPlan, UniformPlan
from segjax.data.timeline import Timeline
from segjax.errors import UserError
from tests.data.fake_source import FakeSource


def table(per_class, records=10):
    """per_class[c] places of class c, all different."""
    classes = np.repeat(np.arange(len(per_class)), per_class).astype(np.int32)
    number = np.arange(len(classes), dtype=np.int32)
    return Centroids(number % records, classes, np.stack([number, number], 1), np.ones_like(number))


def test_uniform_shows_every_record_once():
    plan = UniformPlan(9, seed=3)
    first, second = plan.build(0), plan.build(1)
    assert sorted(first.records) == sorted(second.records) == list(range(9)) and plan.length == 9
    assert (first.records != second.records).any() and (first.places == -1).all()
    assert (UniformPlan(9, seed=4).build(0).records != first.records).any()
    assert sorted(UniformPlan(np.array([2, 5])).build(0).records) == [2, 5]


# name: images N, classes K, q, R; as published for VPLR
CASES = {
    "cv0 fine": (2975, 19, 78, 1493),
    "cv0 fine +-k": (8925, 19, 234, 4479),
    "cv2 fine": (2820, 19, 74, 1414),
    "cv2 fine +-k": (7460, 19, 196, 3736),
    "mapillary": (18000, 65, 138, 9030),
    "kitti": (179, 19, 4, 103),
    "camvid": (468, 11, 21, 237),
}


@pytest.mark.parametrize("name", CASES)
def test_class_uniform_quota_as_published(name):
    images, classes, quota, anywhere = CASES[name]
    plan = ClassPlan(images, table([quota + 5] * classes, records=images), classes)
    epoch = plan.build(0)
    assert plan.quota == quota and plan.length == len(epoch.records) == images
    assert (epoch.places[:, 0] < 0).sum() == anywhere


def counts_of(plan, epoch):
    """Samples around each class, and those anywhere."""
    found = plan.build(epoch).classes
    return np.bincount(found[found >= 0], minlength=plan.num_classes), int((found < 0).sum())


@pytest.mark.parametrize(
    "images, per_class, share",
    [(3, [2, 9, 1], 0.5), (6, [4] * 11, 0.5), (6, [4, 0, 3, 0, 1, 0, 2] + [0] * 12, 0.5), (1, [1, 1], 0.5),
     (5, [1, 0, 0, 0, 0, 0], 1.0), (30, [5] * 40, 1.0)],
)  # fmt: skip
def test_few_records_still_give_each_class_its_share(images, per_class, share):
    """The published quota is 0 in all of these. Oracle: the epochs deal from one endless round of the classes."""
    plan = ClassPlan(images, table(per_class, records=images), len(per_class), share=share, seed=2)
    assert plan.quota == 0 and plan.takes_turns
    present = np.flatnonzero(per_class)
    deck = np.tile(present, 100 * images)
    total = np.zeros(len(per_class), int)
    for epoch in range(60):
        around, anywhere = counts_of(plan, epoch)
        dealt = deck[int(epoch * images * share) : int((epoch + 1) * images * share)]
        assert around.tolist() == np.bincount(dealt, minlength=len(per_class)).tolist()
        assert around.sum() + anywhere == images
        total += around
    assert total.sum() == int(60 * images * share), "as many around places as published for more records"
    assert np.ptp(total[present]) <= 1
    assert plan.build(7).records.tolist() == plan.build(7).records.tolist()


def published(images, classes, share, per_class):
    """Oracle of the published rule: the samples around each class."""
    quota = int(images * share / classes)
    return [quota if places else 0 for places in per_class]


@pytest.mark.parametrize("images, share", [(38, 0.5), (39, 0.5), (60, 0.5), (210, 0.5), (19, 1.0), (300, 1.0)])
def test_many_records_are_sampled_as_published(images, share):
    per_class = [3, 0, 50] + [7] * 16
    plan = ClassPlan(images, table(per_class, records=images), 19, share=share)
    assert not plan.takes_turns
    for epoch in range(3):
        assert counts_of(plan, epoch)[0].tolist() == published(images, 19, share, per_class)


def test_a_share_of_none_has_no_turns():
    assert not ClassPlan(3, table([1, 1]), 2, share=0.0).takes_turns
    assert not ClassPlan(3, table([0] * 9), 9).takes_turns, "no class has a place"


def test_a_quota_of_none_is_logged(caplog):
    caplog.set_level("INFO", "segjax")
    plans.class_uniform(FakeSource(40), tile=16)
    assert not caplog.messages
    plans.class_uniform(FakeSource(7), tile=16)
    assert "7 records are too few for a place of each of 4 classes" in caplog.text
    assert "the classes take turns, with 3.5 places per epoch" in caplog.text


def test_class_uniform_takes_each_class_as_often_and_repeats_rare_ones():
    found = table([50, 3, 0, 7])
    plan = ClassPlan(80, found, 4, share=0.5, seed=1)
    epoch = plan.build(5)
    around = epoch.places[:, 0] >= 0
    classes = found.classes[epoch.places[around, 0]]
    assert np.bincount(classes, minlength=4).tolist() == [10, 10, 0, 10]
    assert (epoch.records[around] == found.records[epoch.places[around, 0]]).all()
    # a rare class is repeated evenly, a common one not at all
    counts = np.bincount(epoch.places[around, 0], minlength=60)
    assert counts[:50].max() == 1 and sorted(counts[50:53]) == [3, 3, 4] and set(counts[53:]) == {1, 2}
    # what class 2 does not have goes to the random part, so that the length stays
    assert (~around).sum() == 50 and len(np.unique(epoch.records[~around])) == 50


def test_the_parts_are_mixed():
    around = ClassPlan(400, table([100] * 4, records=400), 4).build(0).places[:, 0] >= 0
    assert 60 < around[:200].sum() < 140


def test_wraps_around_records_too():
    plan = ClassPlan(np.array([3, 8]), table([0, 0]), 2)
    assert sorted(plan.build(0).records) == [3, 8]


def test_a_pure_function_of_seed_and_epoch():
    plan = ClassPlan(30, table([9, 9]), 2, seed=7)
    later = plan.build(4)
    for epoch in (9, 0, 4):
        again = plan.build(epoch)
    assert (again.records == later.records).all() and (again.places == later.places).all()
    other = ClassPlan(30, table([9, 9]), 2, seed=8).build(4)
    assert (other.records != later.records).any()


def test_extra_places_add_to_the_pools_and_not_to_the_length():
    source = FakeSource(12)
    extra = table([6, 0, 0, 0]).moved(12)
    plan = plans.class_uniform(source, tile=16, extra=[extra])
    seen = np.concatenate([plan.build(epoch).records for epoch in range(20)])
    assert plan.length == 12 and seen.max() >= 12
    anywhere = [plan.build(e).records[plan.build(e).places[:, 0] < 0] for e in range(5)]
    assert np.concatenate(anywhere).max() < 12


def test_plans_by_name_show_what_they_say():
    source = FakeSource(8)
    assert plans.make_plan("uniform", {}, source, seed=2).length == 8
    for kind, share in (("class_uniform", 0.5), ("centroid", 1.0)):
        plan = plans.make_plan(kind, {}, source)
        assert plan.share == share and plan.length == 8
        epoch = plan.build(0)
        around = epoch.places[:, 0] >= 0
        assert around.sum() == int(8 * share)
        classes = [source[r].label[y, x] for r, (y, x) in zip(epoch.records[around], epoch.places[around])]
        assert np.bincount(classes).tolist() == [int(8 * share / 4)] * 4


def test_errors():
    with pytest.raises(UserError, match="Did you mean 'uniform'"):
        plans.make_plan("unifrom", {}, FakeSource(2))
    with pytest.raises(UserError, match="share=1.5"):
        ClassPlan(4, table([1]), 1, share=1.5)


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
