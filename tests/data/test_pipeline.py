import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data import ImageCrops, Reading, Timeline, eval_batches, plans, train_batches
from segjax.data.pipeline import eval_rows
from segjax.errors import UserError
from tests.data.batch_tools import digest
from tests.data.fake_source import FakeSource

SIZES = ((24, 32), (20, 40), (10, 12))
SHAPES = (((16, 16), 4), ((8, 12), 8), ((16, 16), 4))


# of batches that were drawn before samples had a protocol; a change would make other trainings of old recipes
DRAWN = {
    ("uniform", (1.0, 1.0)): "92700dc02ef95c35",
    ("uniform", (0.5, 2.0)): "5e352c87acd7e9bd",
    ("class_uniform", (1.0, 1.0)): "152ba42d5aab1ac3",
    ("class_uniform", (0.5, 2.0)): "bb1702baf8c2d1b1",
    ("centroid", (1.0, 1.0)): "0561e64f180be73a",
    ("centroid", (0.5, 2.0)): "6af4acbd5f128f19",
}
DRAWN_PARTS = ["dfc27a4b45f295b8", "644b96e7bcede00b"]  # of class_uniform, (0.5, 2.0)


def run(source=None, plan="class_uniform", shapes=SHAPES, scale_range=(0.5, 2.0), loader=(), **options):
    source, reading = FakeSource(11, SIZES) if source is None else source, Reading(**dict(loader))
    plan = plans.make_plan(plan, {}, source, seed=5)
    samples = ImageCrops(reading.cached(source), scale_range)
    return train_batches(samples, plan, Timeline(plan.length, shapes), reading, **options)


def same(one, two):
    one, two = list(one), list(two)
    assert len(one) == len(two) > 0
    for (step, batch), (other_step, other) in zip(one, two):
        assert step == other_step and batch.keys() == other.keys()
        for name in batch:
            assert batch[name].dtype == other[name].dtype
            np.testing.assert_array_equal(batch[name], other[name], err_msg=f"{name} of step {step}")


@pytest.fixture(scope="module")
def whole():
    return list(run())


@pytest.mark.parametrize("plan, scale_range", DRAWN)
def test_the_samples_drawn_are_those_of_always(plan, scale_range):
    assert digest(run(plan=plan, scale_range=scale_range)) == DRAWN[plan, scale_range]


def test_the_samples_drawn_are_those_of_always_in_workers_and_processes():
    assert digest(run(loader=dict(num_workers=2))) == DRAWN["class_uniform", (0.5, 2.0)]
    assert [digest(run(process_index=part, process_count=2)) for part in range(2)] == DRAWN_PARTS


@pytest.mark.parametrize("start", range(6))
def test_any_start_gives_the_rest_of_the_run(whole, start):
    rest = list(run(start_step=start))
    if start == 5:
        assert rest == []
    else:
        same(rest, whole[start:])
    if start < 3:
        same(run(start_step=start, end_step=start + 2), whole[start : start + 2])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_hold_neighbouring_rows_of_the_same_batches(whole, hosts):
    parts = [list(run(process_index=p, process_count=hosts)) for p in range(hosts)]
    joined = [
        (steps[0][0], {k: np.concatenate([batch[k] for _, batch in steps]) for k in steps[0][1]})
        for steps in zip(*parts)
    ]
    same(joined, whole)


@pytest.mark.parametrize("options", [dict(num_threads=0), dict(num_threads=5, prefetch=0), dict(cache_bytes=5000)])
def test_how_samples_are_read_changes_nothing(whole, options):
    same(run(loader=options), whole)


def test_epochs_show_every_record_once():
    source = FakeSource(10)
    batches = list(run(source, "uniform", [((8, 8), 5)] * 3))
    for epoch in range(3):
        seen = [r for _, b in batches for r, e in zip(b["record"], b["epoch"]) if e == epoch]
        assert sorted(seen) == list(range(10))


def test_worker_processes_give_the_same_and_end(whole):
    same(run(loader=dict(num_workers=2)), whole)
    batches = run(loader=dict(num_workers=2, num_threads=2))  # left in the middle
    next(batches)
    batches.close()
    assert multiprocessing.active_children() == []


def test_a_worker_that_the_system_kills_is_one_sentence():
    batches = run(plan="uniform", shapes=SHAPES * 20, loader=dict(num_workers=1, prefetch=1))
    next(batches)
    (worker,) = [child for child in multiprocessing.active_children() if "grain" in child.name]
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="ended by signal 9, as the system does .*; lower loader.num_workers"):
        list(batches)


def test_an_error_of_a_record_arrives_from_workers_as_it_is():
    with pytest.raises(UserError, match=r"^fake-3.png is damaged; copy it again$"):
        list(run(FakeSource(11, damaged=3), "uniform", loader=dict(num_workers=1)))


def test_errors_of_records_and_settings():
    with pytest.raises(UserError, match=r"^fake-3.png is damaged; copy it again$"):
        list(run(FakeSource(11, damaged=3), "uniform"))
    with pytest.raises(UserError, match="fake-2 has no label to train on"):
        list(run(FakeSource(11, unlabelled=2), "uniform"))
    with pytest.raises(UserError, match="batch_size=4 must be a multiple of the 3 processes"):
        run(process_count=3)
    with pytest.raises(UserError, match="scale_range"):
        run(scale_range=(2.0, 0.5))


def test_importing_the_data_package_does_not_load_jax():
    code = "import sys, segjax.data; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}).returncode == 0


@settings(max_examples=80)
@given(st.lists(st.sampled_from(SIZES), max_size=23), st.integers(1, 6), st.none() | st.integers(1, 30))
def test_evaluation_rows_hold_each_image_once(sizes, batch, limit):
    rows, shapes = eval_rows(np.array(sizes, np.int32), batch, limit=limit)
    real = rows[rows >= 0]
    expected = len(sizes) if limit is None else min(limit, len(sizes))
    assert len(set(real.tolist())) == len(real) == expected
    assert limit is not None or sorted(real) == list(range(len(sizes)))
    for row, shape in zip(rows, shapes):
        assert all(sizes[r] == tuple(shape) for r in row if r >= 0) and (row >= 0).any()


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_evaluation_counts_each_image_once_on_any_number_of_hosts(hosts):
    source = FakeSource(11, SIZES, unlabelled=4)
    parts = [list(eval_batches(source, batch_size=4, process_index=p, process_count=hosts)) for p in range(hosts)]
    shapes = [[batch["image"].shape for batch in part] for part in parts]
    assert all(s == shapes[0] for s in shapes)
    seen = []
    for part in parts:
        for batch in part:
            assert batch["weight"].dtype == np.float32 and len(batch["image"]) == 4 // hosts
            for image, label, weight, record in zip(*(batch[k] for k in ("image", "label", "weight", "record"))):
                assert weight == (record >= 0)
                if record < 0 or record == 4:
                    assert (label == 255).all()
                if record >= 0:
                    seen.append(record)
                    assert (image == source[record].image).all()
    assert sorted(seen) == list(range(11))


def test_the_images_evaluated_are_those_of_always():
    batches = list(eval_batches(FakeSource(11, SIZES, unlabelled=4), batch_size=4))
    assert digest(enumerate(batches)) == "0fa0205b6eff5b32"
    threads = eval_batches(FakeSource(11, SIZES, unlabelled=4), Reading(num_threads=3, prefetch=0), batch_size=4)
    same(enumerate(threads), enumerate(batches))


def test_a_limited_evaluation_is_spread_over_the_source():
    records = [r for batch in eval_batches(FakeSource(10), batch_size=2, limit=5) for r in batch["record"]]
    assert records == [0, 2, 4, 6, 8, -1]


def test_a_size_that_is_not_what_the_data_set_says():
    source = FakeSource(3)
    source.sizes = source.sizes.copy()
    wrong = type("Wrong", (), {"__getattr__": lambda self, name: getattr(source, name), "__len__": lambda self: 3})
    wrong.__getitem__ = lambda self, i: FakeSource(3, ((9, 9),))[i]
    with pytest.raises(UserError, match="fake-0 is 9x9 and not 32x24"):
        list(eval_batches(wrong(), batch_size=3))
