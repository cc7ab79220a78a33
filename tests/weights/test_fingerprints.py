"""Fingerprints of trees: any change of bits and places is seen, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax import parallel
from segjax.weights.fingerprints import fingerprint, first_fingerprint

DTYPES = ("float64", "float32", "int32", "uint32", "float16", "bfloat16", "int8", "bool")


def tree_of(dtype):
    values = np.random.default_rng(0).normal(size=(3, 5)) * 50
    return {"a": np.arange(100, dtype=np.float32), "b": values.astype(jnp.dtype(dtype)), "c": np.ones(4)}


def flipped(array, places):
    """A copy with these bits flipped."""
    raw = bytearray(np.ascontiguousarray(array).tobytes())
    for place in places:
        raw[place // 8] ^= 1 << place % 8
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


@pytest.mark.parametrize("dtype", DTYPES[:-1])
@settings(max_examples=60)
@given(data=st.data())
def test_any_flipped_bits_are_seen(dtype, data):
    tree = tree_of(dtype)
    places = data.draw(st.sets(st.integers(0, 8 * tree["b"].nbytes - 1), min_size=1, max_size=8))
    assert fingerprint({**tree, "b": flipped(tree["b"], places)}) != fingerprint(tree)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_value_is_seen(dtype):
    tree = tree_of(dtype)
    other = tree["b"].copy()
    other[2, 3] = not other[2, 3] if dtype == "bool" else other[2, 3] / 2 if "float" in dtype else other[2, 3] + 1
    assert fingerprint({**tree, "b": other}) != fingerprint(tree)


def test_all_signs_are_seen():
    tree = {"a": np.random.default_rng(0).normal(size=4096).astype(np.float32)}
    negated = {"a": -tree["a"]}
    assert fingerprint(negated) != fingerprint(tree)
    assert first_fingerprint(negated) == first_fingerprint(tree)  # why there is another


def test_places_count():
    a, b = np.arange(8, dtype=np.float32), np.arange(8, 16, dtype=np.float32)
    found = [fingerprint(tree) for tree in ((a, b), (b, a), (a[::-1], b), (np.concatenate([a, b]),), (a[:4], b))]
    assert len({int(x) for x in found}) == len(found)


def test_they_are_those_of_earlier_versions():
    tree = {"a": jnp.arange(100.0), "b": jnp.arange(7, dtype=jnp.int32), "c": jnp.ones((3, 5), jnp.bfloat16)}
    assert int(first_fingerprint(tree)) == 363069685 and int(fingerprint(tree)) == 2019005282


def test_one_device_is_eight():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    split = jax.device_put(x, jax.sharding.NamedSharding(parallel.make_mesh({"data": 8}), jax.P("data")))
    assert fingerprint([split]) == fingerprint([x])
