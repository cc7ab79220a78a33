"""Views of storages: every one that is accepted equals plain indexing, and none leaves its storage."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segjax.weights.torch_tensors import DTYPES, Storage, Tensor, from_bytes, tensor

few = st.integers(0, 5)


def plainly(data, dtype, offset, shape, strides):
    """The view by a loop over its places, each cut from the bytes; None if one lies outside."""
    size = np.dtype(DTYPES[dtype]).itemsize
    elements = []
    for place in np.ndindex(*shape):
        start = (offset + sum(i * s for i, s in zip(place, strides))) * size
        if start < 0 or start + size > len(data):
            return None
        elements.append(data[start : start + size])
    return b"".join(elements)


@settings(max_examples=400)
@given(data=st.data(), stored=st.sampled_from(sorted(DTYPES)), seen=st.sampled_from(["", *sorted(DTYPES)]))
def test_every_accepted_view_is_plain_indexing(data, stored, seen):
    """Also of another type than the storage's, whose places count in its own elements."""
    content = data.draw(st.binary(max_size=64))
    if "bool" in (stored, seen):
        content = bytes(byte % 2 for byte in content)
    shape = tuple(data.draw(st.lists(few, max_size=3)))
    strides = tuple(data.draw(st.lists(few, min_size=len(shape), max_size=len(shape))))
    offset = data.draw(st.integers(0, 40))
    values = from_bytes(content, stored)
    content = values.tobytes()  # the storage ends with its last whole value
    one = tensor(Storage(stored, values.size, values), offset, shape, strides, seen)
    expected = plainly(content, seen or stored, offset, shape, strides)
    if expected is None:
        with pytest.raises(ValueError, match="a tensor that ends at element"):
            one.array()
        return
    found = one.array()
    assert found.shape == shape and found.dtype == np.dtype(DTYPES[seen or stored])
    assert found.tobytes() == expected and found.flags.owndata
    if seen == stored:
        np.testing.assert_array_equal(found, Tensor(one.storage, offset, shape, strides).array())


@given(start=st.integers(0, 12), count=st.integers(0, 12), offset=st.integers(0, 12), n=st.integers(1, 5), step=few)
def test_a_view_of_a_view_of_a_storage_stays_inside(start, count, offset, n, step):
    root = Storage("int32", 10, np.arange(10, dtype=np.int32))
    one = tensor(Storage("int32", count, root=root, start=start), offset, (n,), (step,))
    inside = start + count <= 10 and offset + (n - 1) * step < count
    if inside:
        assert one.array().tolist() == [start + offset + i * step for i in range(n)]
    else:
        with pytest.raises(ValueError, match="ends at element"):
            one.array()


numbers = st.integers(-3, 2**70) | st.floats() | st.none() | st.booleans() | st.text(max_size=3) | st.just((1,))


@given(offset=numbers, shape=st.lists(numbers, max_size=3) | numbers, strides=st.lists(numbers, max_size=3) | numbers)
def test_what_are_no_sizes_is_refused(offset, shape, strides):
    storage = Storage("float32", 4, np.zeros(4, np.float32))
    listed = type(shape) in (list, tuple) and type(strides) in (list, tuple) and len(shape) == len(strides)
    whole = listed and all(type(n) is int and 0 <= n <= 2**62 for n in (offset, *shape, *strides))
    assume(not whole)
    with pytest.raises(ValueError, match="a tensor with"):
        tensor(storage, offset, shape, strides)


def test_no_more_axes_than_numpy_has():
    storage = Storage("float32", 4, np.zeros(4, np.float32))
    assert tensor(storage, 0, (1,) * 32, (1,) * 32).array().ndim == 32
    with pytest.raises(ValueError, match="33 sizes"):
        tensor(storage, 0, (1,) * 33, (1,) * 33)
    with pytest.raises(ValueError, match="which is no storage"):
        tensor("storage", 0, (), ())


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_bytes_in_either_order(dtype):
    kind = np.dtype(DTYPES[dtype])
    values = np.arange(4).astype(kind) if dtype != "bool" else np.array([0, 1, 1, 0], bool)
    np.testing.assert_array_equal(from_bytes(values.tobytes(), dtype), values)
    if kind.kind in "fiuc":
        swapped = values.astype(kind.newbyteorder(">")).tobytes()
        np.testing.assert_array_equal(from_bytes(swapped, dtype, big_endian=True), values)
    assert from_bytes(values.tobytes() + b"\1" * (kind.itemsize - 1), dtype).size == 4
    assert from_bytes(b"\0\1\2\xff", "bool").tobytes() == b"\0\1\1\1"
