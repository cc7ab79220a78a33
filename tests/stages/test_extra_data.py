"""train.extra and its sampler: the lengths, quotas and pools that the published code has."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data.epoch_plans import UniformPlan
from segjax.data.plans import Extra, make_plan
from segjax.errors import UserError
from segjax.stages import train
from segjax.stages.extra_data import class_id, open_extras, read_extras
from segjax.stages.sampler import check_sampler, read_sampler
from tests.config_tools import read_config
from tests.data.fake_source import FakeSource
from tests.data.test_joined import Source as Labelled

REAL, MORE = FakeSource(20), FakeSource(40, shift=1)


def plan(settings, *, in_epoch=True, classes=()):
    sampler = read_sampler(settings, "train")
    extras = [Extra("propagated", MORE, 20, in_epoch, classes)]
    cut = dict(cut_epoch=sampler.cut_epoch, cut_places=sampler.cut_places)
    return make_plan(sampler.kind, sampler.options, REAL, extras, seed=0, **cut)


def seen(plan, epochs=8, centred=None):
    rows = [plan.build(e) for e in range(epochs)]
    keep = [np.ones(len(r.records), bool) if centred is None else (r.classes >= 0) == centred for r in rows]
    return np.concatenate([r.records[k] for r, k in zip(rows, keep)])


def test_propagated_frames_count_for_the_length_and_the_quota():
    """Cityscapes: N = fine + propagated, q = int(N / 2 / K), the random part of both."""
    made = plan(dict(kind="class_uniform", tile=16))
    assert made.length == 60 and made.quota == 7
    epoch = made.build(0)
    assert (epoch.classes < 0).sum() == 60 - 4 * 7
    assert seen(made, centred=False).max() >= 20 and seen(made, centred=True).max() >= 20


def test_propagated_frames_may_give_places_only():
    """CamVid: N and the random half are the real images."""
    made = plan(dict(kind="class_uniform", tile=16), in_epoch=False)
    assert made.length == 20 and made.quota == 2
    assert seen(made, centred=False).max() < 20 <= seen(made, centred=True).max()


def test_boosted_classes_only():
    made = plan(dict(kind="class_uniform", tile=16), in_epoch=False, classes=(2,))
    rows = [made.build(e) for e in range(30)]
    classes = np.concatenate([r.classes[r.records >= 20] for r in rows])
    assert len(classes) and set(classes) == {2}


def test_the_cut_as_published_and_as_meant():
    for places, later in (("all", 20), ("real", 0)):
        made = plan(dict(kind="class_uniform", tile=16, cut_epoch=1, cut_places=places))
        assert [made.length_of(e) for e in (0, 1, 2)] == [60, 60, 20]
        tail = np.concatenate([made.build(e).records for e in range(2, 30)])
        assert (tail.max() >= 20) == (later > 0)
        centred = np.concatenate([made.build(e).records[made.build(e).classes < 0] for e in range(2, 30)])
        assert centred.max() < 20


def test_uniform_and_centroid_plans_take_extras_too():
    made = plan(dict(kind="uniform"))
    assert made.length == 60 and sorted(made.build(0).records) == list(range(60))
    assert plan(dict(kind="uniform"), in_epoch=False).length == 20
    assert plan(dict(kind="uniform", cut_epoch=0)).length_of(1) == 20
    made = plan(dict(kind="centroid"))
    assert made.length == 60 and (made.build(0).classes >= 0).all()


def test_mistakes_in_the_settings():
    context = SimpleNamespace(workdir=Path("nowhere"), dataset=None)
    training = read_config("configs/vplr.py:propagate=none").train.to_dict() | {"sampler": {"cut_epoch": 3}}
    with pytest.raises(UserError, match="train.sampler.cut_epoch says when train.extra ends, but there is no extra"):
        train.read(training, "train")
    for settings, said in (
        (dict(kind="uniform", cut_epoch=3, cut_places="none"), "train.sampler.cut_places='none' is not known"),
        (dict(kind="unifrom"), "train.sampler.kind='unifrom' is not known. Did you mean 'uniform'"),
        (dict(kind="uniform", tile=3), "train.sampler.tile is not known"),
        (dict(kind="class_uniform", records=3), "train.sampler.records is not known"),
        (dict(kind="class_uniform", share=-0.5), "train.sampler.share=-0.5 must be"),
    ):
        with pytest.raises(UserError, match=said):
            read_sampler(settings, "train")
    for settings, said in (
        (dict(stage="propagate", mode="jp"), "train.extra.steps is missing"),
        (dict(stage="propagate", mode="jp", step=(1,)), "Did you mean 'steps'"),
        (dict(more=dict(split="x", clases=())), "train.extra.more.clases is not known. Did you mean 'classes'"),
        (dict(split="x", dataset=dict(nam="camvid")), "train.extra.dataset.nam is not known"),
    ):
        with pytest.raises(UserError, match=said):
            read_extras(settings, "train.extra")
    extra = read_extras(dict(more=dict(stage="propagate", mode="jp", steps=(1,))), "train.extra")
    with pytest.raises(
        UserError, match="train.extra.more.stage: propagate holds no dataset .*; run the stage that writes"
    ):
        open_extras(extra, REAL, context)
    with pytest.raises(UserError, match="Did you mean|Choose one"):
        class_id("z", REAL.class_names, where="train.extra")
    assert class_id("b", REAL.class_names, where="") == class_id(1, REAL.class_names, where="") == 1
    assert open_extras(read_extras({}, "train.extra"), REAL, context) == (REAL, [])


def test_parts_by_name_and_what_counts_by_default():
    """Propagated frames count for the epoch, labelled images only if they are told to."""
    single = read_extras(dict(stage="propagate", mode="jp", steps=[1, 2]), "train.extra")
    assert [(part.name, part.where, part.steps, part.in_epoch) for part in single] == [
        ("propagate", "train.extra", (1, 2), None)
    ]
    several = read_extras(
        dict(near=dict(stage="p", mode="lp", steps=(1,), in_epoch=False), coarse=dict(split="x", classes=("b", 2))),
        "train.extra",
    )
    assert [(part.name, part.where, part.in_epoch, part.classes) for part in several] == [
        ("near", "train.extra.near", False, ()), ("coarse", "train.extra.coarse", None, ("b", 2))
    ]  # fmt: skip
    context = SimpleNamespace(dataset=SimpleNamespace(open=lambda split: Labelled(3)))
    _, extras = open_extras(several[1:], Labelled(2), context)
    assert [(one.name, one.first, one.in_epoch, one.classes) for one in extras] == [("coarse", 2, False, (1, 2))]


def test_how_often_a_uniform_epoch_shows_a_record():
    """Each record of a part as often as its times; all of them once as before, draw for draw."""
    extras = [Extra("often", MORE, 20, True, (), 3), Extra("places", FakeSource(9), 60, False, (), 2)]
    made = make_plan("uniform", dict(times=2), REAL, extras, seed=5)
    first, second = made.build(0).records, made.build(1).records
    assert made.length == 20 * 2 + 40 * 3 and (first != second).any()
    for records in (first, second):
        assert np.bincount(records).tolist() == [2] * 20 + [3] * 40
    cut = make_plan("uniform", dict(times=2), REAL, extras, seed=5, cut_epoch=0).build(1).records
    assert np.bincount(cut).tolist() == [2] * 20
    once = [Extra("once", MORE, 20)]
    records = make_plan("uniform", {}, REAL, once, seed=5).build(3).records
    np.testing.assert_array_equal(records, make_plan("uniform", dict(times=1), REAL, once, seed=5).build(3).records)
    np.testing.assert_array_equal(records, UniformPlan(60, seed=5).build(3).records)


def test_what_a_uniform_epoch_never_shows_is_a_warning(caplog):
    parts = dict(never=dict(split="x"), once=dict(split="x", in_epoch=True), again=dict(split="x", times=2))
    check_sampler(read_sampler(dict(kind="uniform"), "train"), read_extras(parts, "train.extra"))
    del parts["again"]
    check_sampler(read_sampler(dict(kind="class_uniform"), "train"), read_extras(parts, "train.extra"))
    assert [record.args for record in caplog.records] == [("train.extra.never",)]


def test_what_is_read_of_times():
    (part,) = read_extras(dict(more=dict(split="x", times=2)), "train.extra")
    context = SimpleNamespace(dataset=SimpleNamespace(open=lambda split: Labelled(3)))
    _, (extra,) = open_extras([part], Labelled(2), context)
    assert extra.times == 2 and extra.in_epoch  # what is shown twice is shown
    for settings, said in (
        (dict(times=0), "train.extra.more.times=0 must be a whole number, 1 or more; leave train.extra.more out"),
        (dict(times=1.5), "train.extra.more.times=1.5 must be"),
        (dict(times=True), "train.extra.more.times=True must be"),
        (dict(times=2, in_epoch=False), "train.extra.more.times=2 means nothing to records that do not count"),
    ):
        with pytest.raises(UserError, match=said):
            read_extras(dict(more=dict(split="x", **settings)), "train.extra")
    check_sampler(read_sampler(dict(kind="uniform", times=2), "train"), [part])
    ratios = dict(kind="mixed", parts=dict(real=dict(ratio=1), more=dict(ratio=2)))
    for sampler, said in (
        (
            dict(kind="class_uniform"),
            "more.times=2 belongs to the sampler's kind 'uniform', .*'class_uniform'; leave it",
        ),
        (ratios, "more.times=2 belongs to .* 'mixed'; set train.sampler.parts.more.ratio"),
    ):
        with pytest.raises(UserError, match=said):
            check_sampler(read_sampler(sampler, "train"), [part])
    for sampler, said in (
        (dict(kind="uniform", times=0), "train.sampler.times=0 must be a whole number, 1 or more"),
        (dict(kind="centroid", times=2), "train.sampler.times is not known"),
    ):
        with pytest.raises(UserError, match=said):
            read_sampler(sampler, "train")
