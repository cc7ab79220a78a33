"""train.extra and its sampler: the lengths, quotas and pools that the published code has."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.errors import UserError
from segjax.stages import extra_data as extras
from segjax.stages.extra_data import Extra, make_plan
from tests.data.fake_source import FakeSource

REAL, MORE = FakeSource(20), FakeSource(40, shift=1)


def plan(sampler, *, in_epoch=True, classes=()):
    extra = Extra("propagated", MORE, 20, in_epoch, classes)
    return make_plan(sampler, REAL, [extra], seed=0, cache=None, where="train")


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
    context = SimpleNamespace(workdir=Path("nowhere"), dataset={})
    with pytest.raises(UserError, match="no extra data"):
        make_plan(dict(kind="uniform", cut_epoch=3), REAL, [], seed=0, cache=None, where="train")
    with pytest.raises(UserError, match="cut_places"):
        plan(dict(kind="uniform", cut_epoch=3, cut_places="none"))
    for settings, said in (
        (dict(stage="propagate", mode="jp"), "train.extra.steps is missing"),
        (dict(stage="propagate", mode="jp", step=(1,)), "Did you mean 'steps'"),
        (dict(more=dict(stage="propagate", mode="jp", steps=(1,))), "holds no propagated data set"),
    ):
        with pytest.raises(UserError, match=said):
            extras.open_extras(settings, REAL, context, where="train.extra")
    with pytest.raises(UserError, match="Did you mean|Choose one"):
        extras._class_id("z", REAL.class_names, where="train.extra")
    assert extras._class_id("b", REAL.class_names, where="") == extras._class_id(1, REAL.class_names, where="") == 1
    assert extras.open_extras({}, REAL, context, where="train.extra") == (REAL, [])
