import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data import CachedSource, Timeline, eval_batches, plans, train_batches
from segjax.data.pipeline import eval_rows
from segjax.errors import UserError
from tests.data.fake_source import FakeSource

SIZES = ((24, 32), (20, 40), (10, 12))


def run(source=None, plan="class_uniform", shapes=(((16, 16), 4), ((8, 12), 8), ((16, 16), 4)), **options):
    source = FakeSource(11, SIZES) if source is None else source
    plan = plans.create(plan, source, seed=5)
    return train_batches(source, plan, Timeline(plan.length, shapes), scale_range=(0.5, 2.0), **options)


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


def test_batches_are_as_described(whole):
    assert [step for step, _ in whole] == [0, 1, 2, 3, 4]
    for step, batch in whole:
        rows, window = (8, (16, 24)) if step == 2 else (4, (24, 32))
        assert {k: (v.dtype.name, v.shape[1:]) for k, v in batch.items()} == {
            "image": ("uint8", (*window, 3)),
            "label": ("uint8", window),
            "extent": ("float32", (4,)),
            "box": ("float32", (4,)),
            "index": ("int32", ()),
            "epoch": ("int32", ()),
            "record": ("int32", ()),
        }
        assert all(len(v) == rows for v in batch.values())


def test_windows_hold_the_pixels_of_their_place(whole):
    source = FakeSource(11, SIZES)
    for _, batch in whole:
        for image, label, extent, record in zip(*(batch[k] for k in ("image", "label", "extent", "record"))):
            h, w = extent[2:].astype(int)
            assert (image[:h, :w, 2] == record).all()
            y, x = int(image[0, 0, 0]), int(image[0, 0, 1])  # rows and columns are written into the image
            assert (image[:h, :w] == source[record].image[y : y + h, x : x + w]).all()
            assert (label[:h, :w] == source[record].label[y : y + h, x : x + w]).all()
            assert (label[h:] == 255).all() and (label[:, w:] == 255).all() and not image[h:].any()


def test_the_place_of_the_plan_is_in_the_box(whole):
    source = FakeSource(11, SIZES)
    plan = plans.create("class_uniform", source, seed=5)
    checked = 0
    for _, batch in whole:
        for i in range(len(batch["index"])):
            y, x = plan.build(int(batch["epoch"][i])).places[batch["index"][i]]
            if y >= 0:
                y0, x0 = batch["image"][i, 0, 0, :2].astype(int)
                top, left, bottom, right = batch["box"][i]
                assert top <= y - y0 and y - y0 + 1 <= bottom and left <= x - x0 and x - x0 + 1 <= right
                checked += 1
    assert checked >= 5


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
    same(run(**options), whole)


def test_epochs_show_every_record_once():
    source = FakeSource(10)
    batches = list(run(source, "uniform", [((8, 8), 5)] * 3))
    for epoch in range(3):
        seen = [r for _, b in batches for r, e in zip(b["record"], b["epoch"]) if e == epoch]
        assert sorted(seen) == list(range(10))


def test_worker_processes_give_the_same_and_end(whole):
    same(run(num_workers=2), whole)
    batches = run(num_workers=2, num_threads=2)  # left in the middle
    next(batches)
    batches.close()
    assert multiprocessing.active_children() == []


def test_an_error_of_a_record_arrives_from_workers_as_it_is():
    with pytest.raises(UserError, match=r"^fake-3.png is damaged; copy it again$"):
        list(run(FakeSource(11, damaged=3), "uniform", num_workers=1))


def test_errors_of_records_and_settings():
    with pytest.raises(UserError, match=r"^fake-3.png is damaged; copy it again$"):
        list(run(FakeSource(11, damaged=3), "uniform"))
    with pytest.raises(UserError, match="fake-2 has no label to train on"):
        list(run(FakeSource(11, unlabelled=2), "uniform"))
    with pytest.raises(UserError, match="batch_size=4 must be a multiple of the 3 processes"):
        run(process_count=3)
    with pytest.raises(UserError, match="num_workers=-1"):
        run(num_workers=-1)


def test_importing_the_data_package_does_not_load_jax():
    code = "import sys, segjax.data; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}).returncode == 0


def test_cache_keeps_what_fits_and_travels_empty():
    source = FakeSource(6)
    size = 24 * 32 * 4
    cached = CachedSource(source, max_bytes=3 * size)
    for _ in range(2):
        for i in range(6):
            assert cached[i].image[0, 0, 2] == i
    assert cached.bytes == 3 * size and source.reads == 6 + 3
    assert cached.names == source.names and len(cached) == 6 and cached.num_classes == 4
    copy = pickle.loads(pickle.dumps(cached))
    assert copy.bytes == 0 and copy.max_bytes == cached.max_bytes and copy[2].name == "fake-2"


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
