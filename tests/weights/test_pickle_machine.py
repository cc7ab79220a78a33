"""The pickle machine: the objects of Python's own unpickler where they are plain, and a refusal of everything else."""

import io
import pickle
import struct
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.weights import pickle_machine, read
from segjax.weights.pickle_machine import Refused
from segjax.weights.torch_file import read_torch
from segjax.weights.torch_pickle import no_storage, unpickle
from tests.weights.fuzz_files import HOSTILE, STATE, STORAGE, TENSOR, name, text
from tests.weights.test_hostile_files import write_pickle
from tests.weights.test_torch_file import Global, Tensor, TorchPickler, containers, write

keys = st.text(max_size=5) | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()
plain = st.recursive(
    keys | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
        | st.sets(keys, max_size=4)
        | st.sets(keys, max_size=4).map(frozenset)
    ),
    max_leaves=12,
)


def load(body):
    return unpickle(io.BytesIO(b"\x80\x02" + body + b"."), no_storage)


@given(tree=plain, protocol=st.sampled_from([2, 3, 4, 5]), shared=st.booleans())
def test_plain_objects_are_those_of_pythons_unpickler(tree, protocol, shared):
    tree = [tree, tree] if shared else tree
    data = pickle.dumps(tree, protocol)
    try:
        found = unpickle(io.BytesIO(data), no_storage)
    except Refused as error:  # before protocol 4 these are calls of set(), frozenset() and bytes()
        assert protocol < 4 and "builtin" in str(error)
    else:
        assert found == pickle.loads(data) and type(found) is type(tree)


@pytest.mark.parametrize("body", HOSTILE)
def test_what_is_made_to_harm_is_refused_at_once(tmp_path, body):
    """A tuple doubled fifty times as key, id or argument; a state of a type; types as text."""
    assert len(body) < 500
    write_pickle(tmp_path / "x.pth", b"\x80\x02}" + text("a") + body + b"s.", False, **{"data/0": bytes(16)})
    with pytest.raises(UserError, match=r"x\.pth") as error:
        read(tmp_path / "x.pth")
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_doubled_tuple_that_nothing_looks_at_is_no_harm(tmp_path):
    write_pickle(
        tmp_path / "x.pth", b"\x80\x02}" + text("a") + TENSOR + b"s" + text("b") + b")" + b"2\x86" * 30 + b"s.", False,
        **{"data/0": bytes(16)},
    )  # fmt: skip
    assert list(read(tmp_path / "x.pth")) == ["a"]


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float32"])
def test_a_file_cannot_change_a_type_for_the_next_one(tmp_path, kind):
    body = b"\x80\x02}" + text("a") + name(f"torch {kind}") + STATE + b"bs" + text("b") + TENSOR + b"s."
    write_pickle(tmp_path / "bad.pth", body, False, **{"data/0": bytes(16)})
    with pytest.raises(UserError, match=f"holds a state for torch.{kind}"):
        read(tmp_path / "bad.pth")
    write(tmp_path / "good.pth", {"w": Tensor(np.arange(4).astype(ml_dtypes.bfloat16))})
    np.testing.assert_array_equal(read(tmp_path / "good.pth")["w"].astype(np.float32), [0, 1, 2, 3])


@containers
def test_tokens_are_no_objects_of_numpy_or_python(tmp_path, legacy):
    names = ("torch float32", "torch FloatStorage", "torch device", "numpy dtype", "torch._utils _rebuild_tensor_v2")
    for one in map(load, map(name, names)):
        assert type(one).__module__.startswith("segjax.weights.") and not hasattr(one, "__dict__")
        assert not callable(one)
    tree = {"dtype": Global("torch", "float32"), "a": Tensor(np.ones(2, np.float32))}
    write(tmp_path / "x.pth", tree, legacy=legacy)
    assert read_torch(tmp_path / "x.pth")["dtype"] == "torch.float32"


def test_only_an_ordered_dict_takes_a_state_which_is_dropped():
    ordered = name("collections OrderedDict") + b")R"
    found = load(ordered + b"}" + text("_metadata") + b"Nsb")
    assert type(found) is OrderedDict and not found and not hasattr(found, "_metadata")
    for body in (b"}}b", b"]}b", b")}b", text("a") + b"}b", b"N}b", name("collections OrderedDict") + b"}b"):
        with pytest.raises(ValueError, match="a state for"):
            load(body)


@pytest.mark.parametrize(
    "body, message",
    [
        (b"}" + b"K\x01\x85" + b"K\x01s", r"a key that is \(1\), neither text nor a number"),
        (b"}]K\x01s", "a key that is"),
        (b"}}K\x01s", "a key that is"),
        (b"}" + name("torch float32") + b"K\x01s", "a key that is a DType"),
        (b"}" + text("k" * 600) + b"K\x01s", r"the key 'k+'\.\.\. of 600 characters"),
        (b"\x8b" + struct.pack("<i", 2**20) + b"\x01" * 2**20, "a number of 8388601 bits"),
        (b"(K\x01K\x02K\x03d", "a key that has no value"),
        (b")K\x01a", "where a list is filled"),
        (name("torch device") + b"K\x01K\x02s", "a Function where a dict is filled"),
        (b"}K\x01K\x02a", "more than it has|where a list is filled"),
        (name("torch device") + text("x" * 65) + b"\x85R", "a torch.device of"),
        (name("_codecs encode") + text("x" * 65) + text("latin1") + b"\x86R", "the bytes of"),
        (name("torch Size") + b"]\x85R", r"a torch.Size of \[\]"),
        (name("numpy.core.multiarray scalar") + name("torch float32") + text("abcd") + b"\x86R", "a number of numpy"),
        (name("collections OrderedDict") + b"]K\x01a\x85R", "not made of pairs"),
        (b"K\x01)R", "a call of 1"),
        (b"u", "without the mark"),
        (b"R", "takes more than it has put down"),
        (b"(K\x01K\x02R", "a call"),
        (b"\x82\x01", "the instruction EXT1"),
    ],
)
def test_wrong_pickles_say_what_is_wrong(body, message):
    with pytest.raises(ValueError, match=message):
        load(body)


@pytest.mark.parametrize("body", [b"\x8f0", b"]0", b")0", name("collections OrderedDict") + b")R0"])
def test_objects_are_counted(monkeypatch, body):
    """One byte of a pickle makes a set of 200."""
    monkeypatch.setattr(pickle_machine, "MAX_OBJECTS", 100)
    load(body * 50 + b"N")
    with pytest.raises(ValueError, match="more than 100 objects"):
        load(body * 101 + b"N")


def test_a_list_of_pairs_is_not_copied_again_and_again(monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_OBJECTS", 1000)
    pairs = b"](" + b"".join(b"K" + bytes([i]) + b"N\x86" for i in range(100)) + b"e"
    once = name("collections OrderedDict") + b"q\x00" + pairs + b"\x85q\x01R"
    assert len(load(once)) == 100
    with pytest.raises(ValueError, match="more than 1000 objects"):
        load(once + b"0h\x00h\x01R" * 10)


def test_instructions_are_counted(monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_INSTRUCTIONS", 100)
    with pytest.raises(ValueError, match="more than 100 instructions"):
        load(b"N0" * 60 + b"N")


@containers
def test_depth_and_names_are_bounded(tmp_path, legacy):
    for bad, message in (
        (b"]" * 200 + b"a" * 199, "nested more than 50 deep"),
        (b"\x8c\x04a\n\nb\x8c\x05c\r\nd\n\x93", r"holds 'a\\n\\nb.c\\r\\nd\\n'"),
        (text("a" * 10**5) + text("b") + b"\x93", r"holds a{80}\.\.\.,"),
    ):
        write_pickle(tmp_path / "x.pth", b"\x80\x02" + bad + b".", legacy)
        with pytest.raises(UserError, match=message) as error:
            read(tmp_path / "x.pth")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [np.float64(0.5), np.int64(-3), np.float32(2), np.bool_(True), np.uint8(7)])
def test_numbers_of_numpy_are_read_in_both_orders(number):
    for kind in (number.dtype, number.dtype.newbyteorder(">")):
        data = pickle.dumps(kind.type(number), 2)
        body = io.BytesIO()
        stored = np.asarray(number).astype(kind)
        TorchPickler(body, False).dump({"n": number})
        assert unpickle(io.BytesIO(data), no_storage) == number
        state = b"(K\x03U\x01" + kind.str[:1].encode() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        dtype = name("numpy dtype") + text(kind.str[1:]) + b"\x85R" + state
        value = b"U" + bytes([kind.itemsize]) + stored.tobytes()
        assert load(name("numpy.core.multiarray scalar") + dtype + value + b"\x86R") == number


def test_a_storage_needs_a_type_of_torch_and_plain_parts(tmp_path):
    for old, new in ((text("0"), b"]"), (b"\x8a\x09" + (4).to_bytes(9, "little"), b"G@\x10\0\0\0\0\0\0")):
        assert old in STORAGE
        wrong = STORAGE.replace(old, new)
        write_pickle(tmp_path / "x.pth", b"\x80\x02}" + text("a") + wrong + b"s.", False, **{"data/0": bytes(16)})
        with pytest.raises(UserError, match="a storage"):
            read(tmp_path / "x.pth")
