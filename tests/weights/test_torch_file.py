"""PyTorch files, written here by hand as torch.save of torch 2.13 writes them: the tests need no torch."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.weights import read
from segjax.weights.torch_file import LEGACY_MAGIC, LEGACY_PROTOCOL, read_torch

STORAGES = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage",
    "int64": "LongStorage", "int32": "IntStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip


class Global:
    """Pickled as a reference to module.name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Tensor:
    """Pickled as torch pickles a tensor: a call of _rebuild_tensor_v2 on a storage named by persistent id."""

    def __init__(self, array, view=None, parameter=False):
        self.array, self.view, self.parameter = np.asarray(array), view, parameter


class TorchPickler(pickle._Pickler):
    """The pure Python pickler: the C one cannot write a name that is not importable."""

    def __init__(self, file, legacy, protocol=2):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Tensor):
            self._save_tensor(obj)
        else:
            super().save(obj, save_persistent_id)

    def _save_tensor(self, tensor):
        key = str(len(self.storages))
        self.storages[key] = tensor.array
        offset, shape, strides = tensor.view or (
            0, tensor.array.shape, tuple(s // tensor.array.itemsize for s in tensor.array.strides)
        )  # fmt: skip
        name = STORAGES[tensor.array.dtype.name]
        pid = ("storage", Global("torch", name), key, "cpu", tensor.array.size) + ((None,) if self.legacy else ())
        if tensor.parameter:
            self.save(Global("torch._utils", "_rebuild_parameter"))
            self.write(b"(")
        self.save(Global("torch._utils", "_rebuild_tensor_v2"))
        self.write(b"(")
        self.save(pid)
        self.write(b"Q")
        for item in (offset, tuple(shape), tuple(strides), False, OrderedDict()):
            super().save(item)
        self.write(b"tR")
        if tensor.parameter:
            super().save(True)
            super().save(OrderedDict())
            self.write(b"tR")


def write(path, tree, *, legacy=False):
    """What torch.save(tree, path) writes."""
    body = io.BytesIO()
    pickler = TorchPickler(body, legacy)
    pickler.dump(tree)
    if not legacy:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", body.getvalue())
            archive.writestr("net/byteorder", "little")
            for key, array in pickler.storages.items():
                archive.writestr(f"net/data/{key}", array.tobytes())
            archive.writestr("net/version", "3\n")
        return
    with open(path, "wb") as file:
        for header in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(header, file, 2)
        file.write(body.getvalue())
        pickle.dump(list(pickler.storages), file, 2)
        for array in pickler.storages.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


containers = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "stream"])


@containers
def test_tensors_come_back_with_type_shape_and_values(tmp_path, legacy):
    arrays = {name: np.arange(6).reshape(2, 3).astype(name) for name in STORAGES if name != "bfloat16"}
    arrays["bfloat16"] = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    arrays["scalar"] = np.array(7, np.int64)
    arrays["empty"] = np.zeros((0, 3), np.float32)
    write(tmp_path / "x.pth", OrderedDict((n, Tensor(a)) for n, a in arrays.items()), legacy=legacy)
    found = read_torch(tmp_path / "x.pth")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@containers
def test_views_follow_offset_and_strides(tmp_path, legacy):
    storage = np.arange(24, dtype=np.float32)
    tree = {"t": Tensor(storage, view=(2, (3, 2), (1, 6))), "p": Tensor(storage, parameter=True)}
    write(tmp_path / "x.pth", tree, legacy=legacy)
    found = read_torch(tmp_path / "x.pth")
    np.testing.assert_array_equal(found["t"], [[2, 8], [3, 9], [4, 10]])
    np.testing.assert_array_equal(found["p"], storage)


@containers
def test_the_state_dict_of_a_checkpoint_is_found(tmp_path, legacy):
    weight = np.ones((2, 2), np.float32)
    tree = {"epoch": 174, "mean_iu": 0.83, "command": "train", "optimizer": {"lr": [0.1]}}
    write(tmp_path / "x.pth", tree | {"state_dict": OrderedDict(w=Tensor(weight))}, legacy=legacy)
    assert read_torch(tmp_path / "x.pth")["epoch"] == 174
    assert list(read(tmp_path / "x.pth")) == ["w"]


def test_numpy_numbers_in_a_checkpoint_are_read(tmp_path):
    with open(tmp_path / "x.pth", "wb") as file:
        for header in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}, {"mean_iu": np.float64(0.5)}, []):
            pickle.dump(header, file, 2)
    assert read_torch(tmp_path / "x.pth") == {"mean_iu": 0.5}


@containers
@pytest.mark.parametrize(
    "module, name", [("os", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("argparse", "Namespace")]
)
def test_other_names_are_refused_and_not_called(tmp_path, legacy, module, name):
    write(tmp_path / "x.pth", {"a": Global(module, name)}, legacy=legacy)
    with pytest.raises(UserError, match=rf"x\.pth holds {module}\.{name}.*state_dict"):
        read_torch(tmp_path / "x.pth")


@contextmanager
def refused(path):
    with pytest.raises(UserError, match="x.pth"):
        yield
    assert path.exists()


@containers
@pytest.mark.parametrize(
    "view",
    [(0, (7,), (1,)), (1, (6,), (1,)), (0, (2, 2), (1, 5)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2,), (1, 1))],
)
def test_views_outside_their_storage_are_refused(tmp_path, legacy, view):
    write(tmp_path / "x.pth", {"t": Tensor(np.arange(6, dtype=np.float32), view=view)}, legacy=legacy)
    with refused(tmp_path / "x.pth"):
        read_torch(tmp_path / "x.pth")


@containers
@settings(max_examples=50)
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_named(tmp_path_factory, legacy, share):
    path = tmp_path_factory.mktemp("t") / "x.pth"
    write(path, {"a": Tensor(np.arange(99, dtype=np.float32)), "b": Tensor(np.ones(3, np.float32))}, legacy=legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with refused(path):
        read(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80", b"hello", b"\x80\x02K\x01.", b"\x89PNG\r\n"])
def test_other_files_are_named(tmp_path, data):
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with refused(path):
        read(path)


def test_an_object_that_is_no_dict_is_named(tmp_path):
    write(tmp_path / "x.pth", [Tensor(np.ones(2, np.float32))])
    with pytest.raises(UserError, match="holds a list"):
        read(tmp_path / "x.pth")
    write(tmp_path / "x.pth", {"epoch": 3})
    with pytest.raises(UserError, match="no tensors; its keys are epoch"):
        read(tmp_path / "x.pth")
