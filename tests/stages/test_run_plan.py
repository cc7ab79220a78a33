"""The plan of a training run: its length in steps, epochs or images, and batches that a crop schedule changes."""

import logging
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax import parallel
from segjax.data.crop_schedule import KINDS
from segjax.data.plans import CutPlan, UniformPlan
from segjax.errors import UserError
from segjax.stages.run_plan import make_run_plan, read_plan


@pytest.fixture(scope="module")
def mesh():
    return parallel.make_mesh({"data": 1})


def make(mesh, samples, *, batch=4, size=(64, 64), accumulate_steps=1, crop=None, **lengths):
    section = dict(batch_size=batch, crop=dict(size=size, **(crop or {})), accumulate_steps=accumulate_steps, **lengths)
    plan = UniformPlan(samples) if isinstance(samples, int) else samples
    return make_run_plan(read_plan(section, "train"), plan, mesh)


def images(plan, steps=None):
    """Images of the first steps, counted one by one."""
    steps = plan.total_steps if steps is None else steps
    return sum(plan.timeline.at(step).bucket.batch for step in range(steps))


def test_larger_batches_need_fewer_steps_for_as_many_images(mesh):
    """The 315 steps that 5,040 images make in batches of 16 show 8,332 where the batches have grown."""
    crop = dict(schedule="coarse2fine+")
    plan = make(mesh, 367, batch=16, size=(800, 800), crop=crop, total_examples=5040)
    assert abs(images(plan) - 5040) <= 32 and plan.total_steps < 315
    assert images(make(mesh, 367, batch=16, size=(800, 800), crop=crop, total_steps=315)) == 8332
    assert make(mesh, 367, batch=16, size=(800, 800), total_examples=5040).total_steps == 315


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    samples=st.integers(8, 60),
    batch=st.integers(1, 8),
    wanted=st.integers(1, 1500),
    warmup=st.integers(0, 1),
)
def test_total_examples_is_met_as_nearly_as_whole_batches_can(mesh, kind, samples, batch, wanted, warmup):
    crop = dict(schedule=kind, warmup_epochs=warmup)
    plan = make(mesh, samples, batch=batch, crop=crop, total_examples=wanted)
    last = plan.timeline.at(plan.total_steps - 1).bucket.batch
    seen = images(plan)
    assert plan.total_steps == 1 or seen - last < wanted  # no step comes after the number is reached
    assert plan.total_steps == 1 or seen - 0.5 * last <= wanted  # the last batch brings it nearer
    following = plan.timeline.examples(plan.total_steps + 1) - seen
    assert wanted - seen <= 0.5 * following  # one more would not
    # one epoch may be left over, because another number of epochs has the crops in another order
    assert plan.timeline.epoch_start(max(0, plan.timeline.epochs - 2)) < plan.total_steps
    assert plan.timeline.examples(plan.total_steps) == seen
    if kind == "constant":
        assert plan.total_steps == max(1, round(wanted / batch))
        assert plan.timeline.epochs == math.ceil(plan.total_steps / (samples // batch))


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(KINDS), samples=st.integers(8, 60), batch=st.integers(1, 8), wanted=st.integers(50, 900))
def test_checkpoints_and_evaluations_every_so_many_images(mesh, kind, samples, batch, wanted):
    plan = make(
        mesh,
        samples,
        batch=batch,
        crop=dict(schedule=kind),
        total_examples=wanted,
        checkpoint_examples=wanted,
        eval_examples=wanted / 5,
    )
    seen = images(plan)
    assert plan.examples_per_step == pytest.approx(seen / plan.total_steps)
    assert abs(plan.events.checkpoint_steps * seen / plan.total_steps - wanted) <= 0.5 * seen / plan.total_steps
    assert plan.events.eval_steps == max(1, round(wanted / 5 / seen * plan.total_steps))


def test_an_epoch_of_another_length_after_a_cut(mesh):
    plan = make(mesh, CutPlan(UniformPlan(20), UniformPlan(9), 0), total_examples=41)
    assert images(plan) == 40 and plan.timeline.epochs == 4  # 20 + 8 + 8 + 4


def test_a_grown_batch_is_cut_to_what_an_epoch_holds(mesh, caplog):
    caplog.set_level(logging.INFO, logger="segjax")
    crop = dict(schedule="coarse2fine+", levels=3, divisor=8)
    plan = make(mesh, 21, batch=8, accumulate_steps=2, crop=crop, total_epochs=3)
    assert [bucket.batch for bucket in plan.timeline.buckets] == [20, 14, 8]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("crops of 32x32 (h x w): batches of 32 images are cut to 20, the largest multiple of 2 ")
    with pytest.raises(UserError, match="batch_size=8 must be from 1 to the 7 samples"):
        make(mesh, 7, batch=8, crop=crop, total_epochs=3)


def test_batches_of_all_crops_can_be_divided_into_groups():
    """Into micro-batches, which both the devices and the groups share out."""
    mesh = parallel.make_mesh({"data": 2})
    section = dict(batch_size=12, accumulate_steps=2, total_epochs=3)
    section["crop"] = dict(size=(64, 64), schedule="coarse2fine+", levels=3, divisor=8)
    options = read_plan(section, "train", 3)
    assert options.multiple(mesh) == 12
    grouped, plain = (
        [bucket.batch for bucket in make_run_plan(one, UniformPlan(100), mesh).timeline.buckets]
        for one in (options, read_plan(section, "train"))
    )
    assert grouped == [48, 12, 12] and plain[1] == 20
    with pytest.raises(UserError) as error:
        read_plan(section, "train", 4)
    assert str(error.value) == (
        "config key train.batch_size=12 in 2 micro-batches cannot be divided into train.model.options.bn_groups=4 "
        "groups of as many images each; make it a multiple of 8."
    )


def test_a_warmup_of_a_recipe(mesh):
    crop = dict(schedule="coarse2fine", warmup_epochs=1)
    sides = [b.crop[0] for b in make(mesh, 64, crop=crop, total_epochs=7).timeline.buckets]
    assert sides[:2] == [64, 32]
    plan = make(mesh, 64, crop=dict(crop, warmup="smallest"), total_epochs=7)
    assert plan.timeline.at(0).bucket.crop == (32, 32)
    with pytest.raises(UserError, match="crop.warmup='fulll' is not known. Did you mean 'full'"):
        make(mesh, 64, crop=dict(crop, warmup="fulll"), total_epochs=7)
