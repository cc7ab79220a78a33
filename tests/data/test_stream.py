"""Loading in order, in this process, threads and worker processes."""

import functools
import inspect
import multiprocessing

import numpy as np
import pytest

from segjax.data import CachedSource, Reading
from segjax.data.stream import stack, stream, stream_batches
from segjax.errors import UserError
from tests.data.fake_source import FakeSource


def square(number, damaged=None):
    if number == damaged:
        raise UserError(f"number {number} is damaged")
    return {"square": np.array(number * number)}


@pytest.mark.parametrize("options", [dict(num_threads=0), dict(num_threads=5, prefetch=0), dict(num_workers=2)])
def test_samples_come_in_order(options):
    found = list(stream_batches(square, [2, 1, 4], Reading(**options)))
    assert [batch["square"].tolist() for batch in found] == [[0, 1], [4], [9, 16, 25, 36]]
    assert list(stream_batches(square, [], Reading(**options))) == []


@pytest.mark.parametrize("options", [dict(num_threads=0), dict(num_workers=1)])
def test_an_error_arrives_as_it_is_where_its_sample_is_due(options):
    samples = stream(functools.partial(square, damaged=3), 5, Reading(**options), batch=2)
    assert [int(next(samples)["square"]) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(UserError, match=r"^number 3 is damaged$"):
        next(samples)


def test_workers_end_with_a_stream_that_is_left():
    batches = stream_batches(square, [2] * 20, Reading(num_workers=2, num_threads=2))
    next(batches)
    batches.close()
    assert multiprocessing.active_children() == []


def test_a_recipe_sets_every_option_of_reading():
    parameters = inspect.signature(Reading).parameters
    assert list(parameters) == ["num_workers", "num_threads", "prefetch", "cache_bytes"]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    for name in parameters:
        with pytest.raises(UserError, match=rf"loader.{name}=-1 must be 0 or more"):
            Reading(**{name: -1})


def test_a_cache_is_divided_among_the_workers():
    source = FakeSource(3)
    assert Reading(num_workers=2).cached(source) is source
    cached = Reading(num_workers=2, cache_bytes=1000).cached(source)
    assert isinstance(cached, CachedSource) and cached.max_bytes == 500
    assert Reading(cache_bytes=1000).cached(source).max_bytes == 1000


def test_stack():
    batch = stack([{"a": np.float32(1), "b": np.zeros(2)}, {"a": np.float32(2), "b": np.ones(2)}])
    assert batch["a"].dtype == np.float32 and batch["a"].tolist() == [1, 2] and batch["b"].shape == (2, 2)
