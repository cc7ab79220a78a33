"""Archives of weights: what their size does not warrant is refused before it is read."""

import copy
import io
import os
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.weights import archives, read
from segjax.weights.archives import Bounded
from tests.weights.fuzz_files import header
from tests.weights.test_hostile_files import tar, write_pickle
from tests.weights.test_torch_file import Tensor, write


def refused(path, message):
    """Checks that a file is refused in one sentence, and for less memory than 32 MB."""
    tracemalloc.start()
    with pytest.raises(UserError, match=message) as error:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.name in str(error.value) and "\n" not in str(error.value) and peak < 2**25


def store(path, entries, packed=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# .npz

CODES = ("<f4", ">f4", "<f2", "<f8", "|b1", "|i1", "<i8", ">i2", "|u1", "<c8", "<U3", "|S4")


@given(data=st.data())
def test_npz_files_are_read_as_numpy_reads_them(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    arrays = {}
    for name in data.draw(st.lists(st.sampled_from(["a", "b.weight", "c/d"]), max_size=3, unique=True)):
        code = data.draw(st.sampled_from(CODES))
        array = np.arange(12).astype(code).reshape(data.draw(st.sampled_from([(12,), (3, 4), (2, 3, 2), (12, 1)])))
        arrays[name] = np.asfortranarray(array) if data.draw(st.booleans()) else array[::-1]
    arrays |= {"scalar": np.float32(2), "empty": np.zeros((0, 2))}
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(path, **arrays)
    found = read(path)
    with np.load(path) as expected:
        assert list(found) == expected.files
        for name in expected.files:
            assert found[name].dtype == expected[name].dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[name], expected[name])


def test_a_small_npz_of_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 2**16)
    store(tmp_path / "x.npz", {"a.npy": npy(np.zeros(2**22, np.float32))}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "x.npz").stat().st_size < 2**16
    refused(tmp_path / "x.npz", r"1 or more entries with 16777344 bytes are too many for a file of \d+ bytes")
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "y.npz", a=rng.standard_normal(2**15).astype(np.float32), b=np.zeros(2**14))
    assert read(tmp_path / "y.npz")["b"].shape == (2**14,)


@pytest.mark.parametrize("packed", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_are_refused(tmp_path, packed):
    store(tmp_path / "x.npz", {"a.npy": npy(np.zeros(3))}, packed)
    refused(tmp_path / "x.npz", "entry 'a.npy' is compressed")


@pytest.mark.parametrize(
    "code, message",
    [("<M8[s]", "no type of real numbers"), ("<f4,<f4", "no type of"), ("(2,)<f4", "no type of"), ("|O", "no type of"),
     ("|V2", "no type of"), ("<f16", "no type of"), ("<U0", "no type of"), ("float32", "no type of")],
)  # fmt: skip
def test_types_are_those_of_a_table(tmp_path, code, message):
    head = f"{{'descr': {code!r}, 'fortran_order': False, 'shape': (2,), }}\n".encode()
    store(tmp_path / "x.npz", {"a.npy": b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64)})
    refused(tmp_path / "x.npz", message)


@pytest.mark.parametrize(
    "head, message",
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }", "should have 1000000000000 values"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "has the shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': 2, }", "has the shape 2"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", "has the shape"),
        ("{'descr': '<f4', 'fortran_order': False}", "has the header"),
        ("[" * 5000, "x.npz"),
        ("__import__('os').getcwd()", "x.npz"),
        ("(" * 20000, "is no array"),
    ],
)
def test_headers_say_what_is_wrong(tmp_path, head, message):
    data = b"\x93NUMPY\x02\x00" + len(head).to_bytes(4, "little") + head.encode() + bytes(8)
    store(tmp_path / "x.npz", {"a.npy": data})
    refused(tmp_path / "x.npz", message)


# .pth


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_entries_over_each_other_are_counted(tmp_path, suffix):
    """A thousand names for the bytes of one entry."""
    path = tmp_path / f"x{suffix}"
    write_pickle(path, b"\x80\x02}.", False, **{"data/0": bytes(2**20)})
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(1, 1000):
            other = copy.copy(archive.getinfo("net/data/0"))
            other.filename = other.orig_filename = f"net/data/{number}"
            archive.filelist.append(other)
        archive._didModify = True
    refused(path, r"entries with \d+ bytes are too many for a file of \d+ bytes")


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    write_pickle(tmp_path / "x.pth", b"\x80\x02}.", False)
    with zipfile.ZipFile(tmp_path / "x.pth", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("net/data.pkl", b"\x80\x02].")
    refused(tmp_path / "x.pth", "entry 'net/data.pkl' is there twice")


def test_thousands_of_storages_are_found_by_name(tmp_path):
    """The names were searched in a list for each of them."""
    one = Tensor(np.ones(1, np.float32))
    write(tmp_path / "x.pth", {f"{i}.weight": one for i in range(3000)})
    assert len(read(tmp_path / "x.pth")) == 3000


HONEST = dict(storages={11: np.arange(4, dtype=np.float32)}, views=[], tensors={21: (11, (4,), (1,), 0)})


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_SPARSE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_sparse_and_linked_members_are_refused(tmp_path, kind):
    """A header of 512 bytes stands for 4 GB."""
    with tarfile.open(tmp_path / "x.pth", "w:") as archive:
        for name in ("tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))
    first = header(kind, sparse=2**32 if kind == tarfile.GNUTYPE_SPARSE else 0)
    (tmp_path / "x.pth").write_bytes(first + (tmp_path / "x.pth").read_bytes())
    refused(tmp_path / "x.pth", "entry 'storages' is no file but a link, sparse or a folder")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    tar(tmp_path / "x.pth", **HONEST, tree={"a": ("tensor", 21)})
    (tmp_path / "x.pth").write_bytes(header(b"0") + (tmp_path / "x.pth").read_bytes())
    refused(tmp_path / "x.pth", "no weight file")


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_thousands_of_headers_of_long_names_are_passed_over(tmp_path, kind):
    tar(tmp_path / "x.pth", **HONEST, tree={"a": ("tensor", 21)})
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(other(kind) * 5000 + whole)
    assert read(tmp_path / "x.pth")["a"].tolist() == [0, 1, 2, 3]
    (tmp_path / "x.pth").write_bytes(other(kind) * 5000)
    refused(tmp_path / "x.pth", "no weight file")


def other(kind):
    member = tarfile.TarInfo("././@LongLink")
    member.type = kind
    return member.tobuf(tarfile.GNU_FORMAT)


def test_a_member_larger_than_the_file_is_refused(tmp_path):
    tar(tmp_path / "x.pth", **HONEST, tree={"a": ("tensor", 21)})
    (tmp_path / "x.pth").write_bytes(header(b"0", 2**32) + (tmp_path / "x.pth").read_bytes())
    refused(tmp_path / "x.pth", "no weight file")


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_only_regular_files_are_read(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        refused(tmp_path / f"{name}{suffix}", "does not exist")


def test_a_bounded_file_allocates_what_is_left(tmp_path):
    (tmp_path / "x").write_bytes(b"abcdef")
    with open(tmp_path / "x", "rb") as file:
        bounded = Bounded(file)
        assert bounded.read(2) == b"ab" and bounded.read(2**62) == b"cdef" and bounded.read() == b""
        bounded.seek(1)
        with pytest.raises(EOFError, match="x has 6 bytes, 5 are left"):
            bounded.exactly(6, "x")
        with pytest.raises(EOFError):
            bounded.exactly(-1, "x")
        with pytest.raises(ValueError, match="byte -3"):
            bounded.seek(-3)
