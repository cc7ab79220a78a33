"""Mixed epochs: exact counts by part and class, no dependence of one part on another, and the mistakes of settings."""

import collections
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data import ImageCrops, Timeline, train_batches
from segjax.data.centroids import Centroids, component_centroids, tile_centroids
from segjax.data.extra import Extra
from segjax.data.joined import Joined
from segjax.data.mixed_plan import MixedPlan, PartOptions
from segjax.data.part_plan import PartPlan
from segjax.data.plans import make_plan
from segjax.data.stream import Reading
from segjax.errors import UserError
from tests.data.fake_source import FakeSource
from tests.data.test_joined import Source as Labelled

NAMES = ("real", "pseudo", "coarse")


@st.composite
def plans(draw):
    """Parts with any numbers of places per class, one after the other."""
    parts, first = [], 0
    for name in NAMES[: draw(st.integers(1, 3))]:
        records = draw(st.integers(1, 9))
        counts = draw(st.lists(st.integers(0, 7), min_size=1, max_size=5))
        found = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        found = np.random.default_rng(len(found)).permutation(found)
        number = np.arange(len(found), dtype=np.int32)
        places = Centroids(number % records, found, np.stack([number, number + 1], 1), np.ones_like(number))
        classes = np.array(sorted(draw(st.sets(st.sampled_from(range(len(counts))), min_size=1))))
        absent = draw(st.sampled_from(["shared", "random"]))
        some = any(counts[c] for c in classes)
        share = draw(st.sampled_from([0.0, 0.4, 1.0])) if some else 0.0
        parts.append(PartPlan(name, first, records, draw(st.integers(1, 60)), share, places, classes, absent, 3))
        first += records
    return MixedPlan(tuple(parts), 3)


def rows_of(epoch, part):
    inside = (epoch.records >= part.first) & (epoch.records < part.first + part.records)
    return epoch.records[inside] - part.first, epoch.places[inside], epoch.classes[inside]


def spread(values, among):
    """How often each of `among` occurs in the values: the set of these counts."""
    counts = collections.Counter(values)
    assert set(counts) <= set(among)
    return {counts[value] for value in among}


@settings(max_examples=200, deadline=None)
@given(plans(), st.integers(0, 5))
def test_counts_of_parts_and_classes(plan, number):
    epoch = plan.build(number)
    assert len(epoch.records) == plan.length == plan.length_of(number) == sum(part.length for part in plan.parts)
    for part in plan.parts:
        records, places, classes = rows_of(epoch, part)
        assert len(records) == part.length
        around = classes >= 0
        assert (places[~around] == -1).all()
        # what is around a place is one of the part's places, with its record and its class
        rows = places[around, 0]
        assert (places[around, 1] == rows + 1).all()
        assert (part.places.records[rows] == records[around]).all() and (
            part.places.classes[rows] == classes[around]
        ).all()
        wanted = round(part.length * part.share)
        have = [c for c in part.classes.tolist() if (part.places.classes == c).any()]
        if part.absent == "shared":
            assert around.sum() == wanted
            low, high = (wanted // len(have), -(-wanted // len(have))) if have else (0, 0)
        else:
            low, high = wanted // len(part.classes), -(-wanted // len(part.classes))
            assert low * len(have) <= around.sum() <= high * len(have)
        counts = spread(classes[around].tolist(), have)
        assert all(low <= count <= high for count in counts), "N/C of every class, within one"
        # no place before all others of its class, no record before all others
        for c in have:
            drawn = spread(rows[classes[around] == c].tolist(), np.flatnonzero(part.places.classes == c).tolist())
            assert max(drawn) - min(drawn) <= 1
        drawn = spread(records[~around].tolist(), range(part.records))
        assert max(drawn) - min(drawn) <= 1


@settings(max_examples=60, deadline=None)
@given(plans(), st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_a_pure_function_of_seed_and_epoch(plan, order):
    """An epoch is the same whatever was built before it, so that a resumed training sees what it would have seen."""
    fresh = {number: MixedPlan(plan.parts, 3).build(number) for number in set(order)}
    for number in order:
        assert all((one == two).all() for one, two in zip(plan.build(number), fresh[number]))


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 3), st.randoms())
def test_a_part_more_or_less_does_not_change_the_draws_of_the_others(plan, number, random):
    def drawn(plan, part):
        return sorted(zip(*(column.tolist() for column in rows_of(plan.build(number), part))))

    kept = list(random.sample(plan.parts, random.randint(1, len(plan.parts))))
    for part in kept:
        assert drawn(MixedPlan(tuple(kept), 3), part) == drawn(plan, part)


def test_each_epoch_draws_anew():
    plan = MixedPlan((PartPlan("real", 0, 40, 20), PartPlan("pseudo", 40, 40, 20)))
    halves = [sorted(plan.build(e).records.tolist()) for e in range(3)]
    assert halves[0] != halves[1] != halves[2]
    real, pseudo = ({r % 40 for r in halves[0] if lo <= r < lo + 40} for lo in (0, 40))
    assert len(real) == len(pseudo) == 20 and real != pseudo, "a key of its own for each part"
    other = MixedPlan((PartPlan("real", 0, 40, 20, seed=1),), seed=1)
    assert sorted(other.build(0).records.tolist()) != sorted(r for r in halves[0] if r < 40)
    assert {len({*plan.build(e).records[:20]} & {*range(40)}) for e in range(9)} != {20}, "parts are shuffled together"


REAL, MORE = FakeSource(20), FakeSource(30, sizes=((24, 32), (16, 16)), shift=1)


def mixed(**parts):
    extras = [Extra(name, MORE, 20 + 30 * i) for i, name in enumerate(list(parts)[1:])]
    return make_plan("mixed", dict(parts={n: PartOptions(*p) for n, p in parts.items()}), REAL, extras, seed=2)


@pytest.mark.parametrize("ratio, length", [(0.5, 10), (1, 20), (1.33, 27), (2.0, 40), (0.26, 5)])
def test_ratios_refer_to_the_real_records(ratio, length):
    plan = mixed(real=("uniform", 1.0), pseudo=("uniform", ratio))
    records = plan.build(0).records
    assert sorted(records[records < 20]) == list(range(20))
    assert (records >= 20).sum() == length and plan.length == 20 + length
    counts = np.bincount(records[records >= 20] - 20, minlength=30)
    assert counts.max() - counts.min() == 1


def test_a_part_with_ratio_0_is_neither_shown_nor_searched():
    MORE.reads = 0
    plan = mixed(real=("uniform", 1.0), pseudo=("centroid", 0))
    assert MORE.reads == 0 and plan.build(0).records.max() < 20 == plan.length


def test_kinds_draw_around_what_their_names_say():
    options = dict(tile=16, min_area=9)
    plan = mixed(real=("centroid", 1.0, dict(min_area=4)), pseudo=("class_uniform", 2.0, options))
    epoch = plan.build(0)
    places = collections.defaultdict(set)
    for part, source in (("real", REAL), ("pseudo", MORE)):
        for i in range(len(source)):
            label = source.label(i)
            found = component_centroids(label, 4, min_area=4) if part == "real" else tile_centroids(label, 4, **options)
            places[part] |= {(i, *place, c) for c, place in zip(found[0].tolist(), map(tuple, found[1].tolist()))}
    shown = {"real": 0, "pseudo": 0}
    for record, (y, x), c in zip(*(column.tolist() for column in epoch)):
        part, row = ("real", record) if record < 20 else ("pseudo", record - 20)
        assert c < 0 or (row, y, x, c) in places[part]
        shown[part] += c >= 0
    assert shown == {"real": 20, "pseudo": 20}, "all of the real part, half of the other one"


def test_specks_are_left_out_unless_they_are_asked_for():
    parts = [mixed(real=("centroid", 1.0, options)).parts[0].places for options in ({}, dict(min_area=1))]
    assert parts[0].areas.min() >= 16 > parts[1].areas.min()


def test_only_some_classes_of_a_part():
    extras = [Extra("coarse", MORE, 20, classes=(1, 3))]
    options = {"real": PartOptions("uniform", 1), "coarse": PartOptions("centroid", 1.0, dict(min_area=1))}
    epoch = make_plan("mixed", dict(parts=options), REAL, extras).build(0)
    assert np.bincount(epoch.classes[epoch.classes >= 0]).tolist() == [0, 10, 0, 10]


class Without(FakeSource):
    """Has no pixel of class 2, and `rare` ones of class 3."""

    def label(self, index):
        label = super().label(index)
        label[label == 2] = 255
        if index:
            label[label == 3] = 255
        return label


@pytest.mark.parametrize("absent", ["shared", "random"])
def test_classes_without_places_are_named(absent, caplog):
    options = {"real": PartOptions("centroid", 6.0, dict(min_area=1, absent=absent))}
    with caplog.at_level(logging.INFO, logger="segjax"):
        plan = make_plan("mixed", dict(parts=options), Without(4))
    counts = np.bincount(plan.build(0).classes + 1, minlength=5).tolist()
    assert counts == ([0, 8, 8, 0, 8] if absent == "shared" else [6, 6, 6, 0, 6])
    whose = "is shared among the other classes" if absent == "shared" else "goes to records anywhere"
    assert f"part real: no place of c, whose quota {whose}" in caplog.text
    assert "24 samples per epoch (ratio 6) of 4 records, centroid, which repeat 6 times" in caplog.text
    few = (component_centroids(Without(4).label(0), 4)[0] == 3).sum()
    assert 0 < few < 8 and f"places repeat of d ({(8 if absent == 'shared' else 6) / few:.3g} times)" in caplog.text


def test_a_resumed_training_sees_the_same_batches():
    real, more = Labelled(6), Labelled(8, sizes=((16, 16), (24, 32)), shift=1)
    parts = {"real": PartOptions("centroid", 1.0), "pseudo": PartOptions("class_uniform", 1.5, dict(tile=16))}
    plan = make_plan("mixed", dict(parts=parts), real, [Extra("pseudo", more, 6)], seed=4)
    timeline = Timeline.constant(plan.length, crop=(8, 8), batch=4, epochs=3)
    samples = ImageCrops(Joined([real, more]), (1.0, 2.0))
    whole = list(train_batches(samples, plan, timeline, Reading(num_threads=0)))
    assert len(whole) == 9 and {record < 6 for _, b in whole for record in b["record"].tolist()} == {True, False}
    for start in (2, 4, 7):
        for (step, one), (number, two) in zip(
            train_batches(samples, plan, timeline, Reading(num_threads=0), start), whole[start:], strict=True
        ):
            assert step == number and all((one[name] == two[name]).all() for name in two)


NOTHING = FakeSource(0)


@pytest.mark.parametrize(
    "parts, source, message",
    [
        (dict(real=("uniform", 1)), MORE, "sampler.parts.pseudo is missing: give it a kind and a ratio"),
        (dict(pseudo=("uniform", 1)), MORE, "sampler.parts.real is missing"),
        (dict(real=("uniform", 1), psuedo=("uniform", 1)), MORE, "psuedo names no part .* Did you mean 'pseudo'"),
        (dict(real=("uniform", 0), pseudo=("uniform", 0)), MORE, "all ratios are 0"),
        (dict(real=("uniform", 1), pseudo=("uniform", 1)), NOTHING, "pseudo.ratio=1: part 'pseudo' has no records"),
        (dict(real=("uniform", 1), pseudo=("uniform", 0.02)), MORE, "ratio=0.02 of 20 real records is not one sample"),
        (
            dict(real=("uniform", 1), pseudo=("centroid", 1.0, dict(min_area=9999))), MORE,
            "pseudo.kind='centroid': the labels of part 'pseudo' have no place .*; lower its min_area",
        ),
        (
            dict(real=("uniform", 1), pseudo=("centroid", 1.0)), FakeSource(3, unlabelled=1),
            "fake-1 has no label .*'uniform'",
        ),
        (dict(real=("centroid", 1.0, dict(share=1.5)), pseudo=("uniform", 1)), MORE, "real.share=1.5 must be from 0"),
    ],
)  # fmt: skip
def test_mistakes(parts, source, message):
    options = {name: PartOptions(*part) for name, part in parts.items()}
    with pytest.raises(UserError, match=message):
        make_plan("mixed", dict(parts=options), REAL, [Extra("pseudo", source, 20)])


def test_mistakes_with_the_extra_data():
    options = {"real": PartOptions("uniform", 1), "more": PartOptions("uniform", 1)}
    with pytest.raises(UserError, match=r"extra.more.classes names some; leave them out, or give the kind 'centroid'"):
        make_plan("mixed", dict(parts=options), REAL, [Extra("more", MORE, 20, classes=(1,))])
    with pytest.raises(UserError, match="extra.real has the name of the split's own images"):
        make_plan("mixed", dict(parts=options), REAL, [Extra("real", MORE, 20)])
