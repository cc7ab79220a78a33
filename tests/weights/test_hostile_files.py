"""Files made to harm their reader: refused in one sentence that names the entry, and nothing of them is run."""

import io
import pickle
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segjax import weights
from segjax.errors import UserError
from segjax.weights import read
from segjax.weights.torch_file import LEGACY_MAGIC, LEGACY_PROTOCOL
from tests.weights.test_load import concrete, variables
from tests.weights.test_torch_file import Global, Tensor, TorchPickler, containers, write


def write_pickle(path, data, legacy, **entries):
    """A container around the bytes of a pickle."""
    if legacy:
        with open(path, "wb") as file:
            for header in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}):
                pickle.dump(header, file, 2)
            file.write(data)
            pickle.dump([], file, 2)
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"net/{name}", content)


class Call:
    """Unpickled by calling a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@containers
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_runs_a_command_is_refused_and_not_run(tmp_path, legacy, protocol):
    import os

    data = pickle.dumps({"state_dict": {"a": [Call(os.system, f"touch {tmp_path}/touched")]}}, protocol)
    write_pickle(tmp_path / "x.pth", data, legacy)
    with pytest.raises(UserError, match=rf"x\.pth holds ({os.system.__module__})\.system.*state_dict"):
        read(tmp_path / "x.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@containers
@pytest.mark.parametrize(
    "module, name",
    [
        ("torch", "serialization.os.system"), ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.__init__.__globals__"), ("numpy", "load"), ("torch", "load"),
        ("torch.storage", "_load_from_bytes"), ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch.jit._pickle", "restore_type_tag"), ("__builtin__", "eval"), ("numpy.core.multiarray", "_reconstruct"),
    ],
)  # fmt: skip
def test_nested_and_similar_names_are_refused(tmp_path, legacy, module, name):
    """STACK_GLOBAL follows the dots of a name; only whole names of the list count."""
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()  # noqa: E731
    write_pickle(tmp_path / "x.pth", b"\x80\x04" + text(module) + text(name) + b"\x93.", legacy)
    with pytest.raises(UserError, match=f"holds {module}.{name}"):
        read(tmp_path / "x.pth")


def test_a_file_cannot_change_the_reader_for_the_next_one(tmp_path):
    """BUILD sets attributes of the stand-ins of one file; those of the next are new."""
    body = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__K\x01sb."
    write_pickle(tmp_path / "bad.pth", body, legacy=False)
    with pytest.raises(UserError):
        read(tmp_path / "bad.pth")
    write(tmp_path / "good.pth", {"a": Tensor(np.ones(2, np.float32))})
    assert list(read(tmp_path / "good.pth")) == ["a"]


@containers
@pytest.mark.parametrize(
    "data, text",
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo has 2147483647 entries"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f.", "bytearray8"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.", "bytes8"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "long4"),
    ],
)
def test_absurd_sizes_in_the_pickle_cost_no_memory(tmp_path, legacy, data, text):
    write_pickle(tmp_path / "x.pth", data, legacy)
    with pytest.raises(UserError, match="MemoryError|" + text if legacy else text):  # how a file, not bytes, says it
        read(tmp_path / "x.pth")


@containers
def test_an_expanded_tensor_of_absurd_size_is_named(tmp_path, legacy):
    one = Tensor(np.ones(1, np.float32), view=(0, (2**20, 2**20), (0, 0)))
    write(tmp_path / "x.pth", {"state_dict": {"layer1.weight": one}}, legacy=legacy)
    with pytest.raises(UserError, match=r"entry 'state_dict.layer1.weight' is a tensor of 1099511627776 values"):
        read(tmp_path / "x.pth")
    write(tmp_path / "y.pth", {"a": Tensor(np.ones(1, np.float32), view=(0, (3, 4), (0, 0)))}, legacy=legacy)
    assert read(tmp_path / "y.pth")["a"].shape == (3, 4)


@containers
def test_many_expanded_tensors_are_refused_before_they_fill_the_memory(tmp_path, legacy):
    one = [Tensor(np.ones(1, np.float32), view=(0, (2**20,), (0,))) for _ in range(20)]
    write(tmp_path / "x.pth", {"a": one}, legacy=legacy)
    with pytest.raises(UserError, match=r"entry 'a\[16\]' is a view too many: 17825792 values in tensors so far, 17"):
        read(tmp_path / "x.pth")
    write(tmp_path / "y.pth", {"a": one[0], "b": one[1]}, legacy=legacy)
    assert read(tmp_path / "y.pth")["b"].shape == (2**20,)


def test_a_large_storage_can_be_shared_but_not_by_hundreds(tmp_path):
    class Sharing(TorchPickler):
        """All tensors on the first storage."""

        def _save_tensor(self, tensor):
            self.storages.clear()
            super()._save_tensor(tensor)

    def store(path, count):
        body, array = io.BytesIO(), np.zeros(2**22, np.float32)
        pickler = Sharing(body, False)
        pickler.dump({"w": [Tensor(array) for _ in range(count)], "tied": Tensor(array)})
        write_pickle(path, body.getvalue(), False, **{"data/0": array.tobytes()})

    store(tmp_path / "tied.pth", 2)
    assert read(tmp_path / "tied.pth")["tied"].shape == (2**22,)
    store(tmp_path / "x.pth", 100)
    with pytest.raises(UserError, match=r"entry 'w\[8\]' is a view too many"):
        read(tmp_path / "x.pth")


@containers
def test_a_tensor_outside_its_storage_is_named(tmp_path, legacy):
    tree = {
        "a.weight": Tensor(np.ones(4, np.float32)),
        "b.weight": Tensor(np.ones(4, np.float32), view=(2, (3,), (1,))),
    }
    write(tmp_path / "x.pth", tree, legacy=legacy)
    with pytest.raises(UserError, match="entry 'b.weight' is a tensor that ends at element 4 of a storage of 4"):
        read(tmp_path / "x.pth")


def test_a_storage_shorter_than_it_says_is_named(tmp_path):
    write(tmp_path / "x.pth", {"a": Tensor(np.ones(4, np.float32)), "b": Tensor(np.ones(4, np.float32))})
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    for change, text in (
        ({"net/data/1": b"\0" * 12}, "net/data/1' should have 4 values and has 3"),
        ({}, "net/data/1"),
    ):
        with zipfile.ZipFile(tmp_path / "y.pth", "w") as archive:
            for name, content in (entries | change).items():
                if change or name != "net/data/1":
                    archive.writestr(name, content)
        with pytest.raises(UserError, match=text):
            read(tmp_path / "y.pth")


def test_a_storage_longer_than_the_file_is_named(tmp_path):
    write(tmp_path / "x.pth", {"a": Tensor(np.ones(4, np.float32))}, legacy=True)
    data = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(data[:-24] + struct.pack("<q", 2**60) + data[-16:])
    with pytest.raises(UserError, match=r"storage '0' has 4611686018427387904 bytes, 16 are left"):
        read(tmp_path / "x.pth")


def test_a_compressed_archive_is_refused(tmp_path):
    """PyTorch never compresses; a few kB can become many GB."""
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/data/0", bytes(2**24))
    assert (tmp_path / "x.pth").stat().st_size < 2**16
    with pytest.raises(UserError, match=r"entry 'net/data.pkl' is compressed"):
        read(tmp_path / "x.pth")


@containers
def test_lists_within_lists_are_read_once_each(tmp_path, legacy):
    """Forty lists of the one before, twice: 2^40 lists where each is followed anew."""
    tree = [1]
    for _ in range(40):
        tree = [tree, tree]
    write_pickle(tmp_path / "x.pth", pickle.dumps({"bomb": tree}, 2), legacy)
    with pytest.raises(UserError, match="no tensors"):
        read(tmp_path / "x.pth")


@containers
def test_a_list_within_itself_is_refused(tmp_path, legacy):
    loop = []
    loop.append(loop)
    write_pickle(tmp_path / "x.pth", pickle.dumps({"a": loop}, 2), legacy)
    with pytest.raises(UserError, match="x.pth"):
        read(tmp_path / "x.pth")


def test_torchscript_is_named(tmp_path):
    write_pickle(tmp_path / "x.pth", pickle.dumps({}), False, **{"constants.pkl": b""})
    with pytest.raises(UserError, match="TorchScript"):
        read(tmp_path / "x.pth")


# The tar container of torch < 0.1.10, and views of storages


def tar(path, storages, views, tensors, tree):
    """storages: key -> array; views: (key, root, start, count); tensors: key -> (storage, shape, strides, offset)."""
    parts = {name: io.BytesIO() for name in ("storages", "tensors", "pickle")}

    def dump(file, obj):
        TorchPickler(file, legacy=True).dump(obj)

    pickle.dump(len(storages), parts["storages"], 2)
    for key, array in storages.items():
        dump(parts["storages"], (key, "cpu", Global("torch", "FloatStorage")))
        parts["storages"].write(struct.pack("<q", array.size) + array.tobytes())
    pickle.dump(views, parts["storages"], 2)
    pickle.dump(len(tensors), parts["tensors"], 2)
    for key, (storage, shape, strides, offset) in tensors.items():
        dump(parts["tensors"], (key, storage, Global("torch", "FloatTensor")))
        n = len(shape)
        parts["tensors"].write(struct.pack(f"<ii{2 * n + 1}q", n, 0, *shape, *strides, offset))

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return str(obj[1]) if isinstance(obj, tuple) and obj[0] == "tensor" else None

    Pickler(parts["pickle"], 2).dump(tree)
    with tarfile.open(path, "w:") as archive:
        for name, file in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(file.getvalue())
            archive.addfile(member, io.BytesIO(file.getvalue()))


def test_the_tar_container_of_old_torch_is_read(tmp_path):
    tar(
        tmp_path / "old.pth",
        {11: np.arange(12, dtype=np.float32)},
        [(12, 11, 6, 6)],
        {21: (11, (3, 2), (1, 3), 1), 22: (12, (6,), (1,), 0)},
        {"state_dict": {"a.weight": ("tensor", 21), "b.bias": ("tensor", 22)}, "epoch": 3},
    )
    found = read(tmp_path / "old.pth")
    np.testing.assert_array_equal(found["a.weight"], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(found["b.bias"], np.arange(6, 12))


@pytest.mark.parametrize(
    "views, tensors, text",
    [
        ([(12, 11, 6, 9)], {21: (12, (1,), (1,), 0)}, "storage that ends at element 15 of one of 12"),
        ([], {21: (11, (99,), (1,), 0)}, "entry 'a' is a tensor that ends at element 98"),
        ([], {21: (77, (1,), (1,), 0)}, "KeyError: 77"),
    ],
)
def test_a_damaged_tar_is_named(tmp_path, views, tensors, text):
    tar(tmp_path / "old.pth", {11: np.zeros(12, np.float32)}, views, tensors, {"a": ("tensor", 21)})
    with pytest.raises(UserError, match=text):
        read(tmp_path / "old.pth")


def test_a_tar_that_calls_functions_is_refused(tmp_path):
    import os

    tar(tmp_path / "old.pth", {}, [], {}, Call(os.system, f"touch {tmp_path}/touched"))
    with pytest.raises(UserError, match=r"holds \w+\.system"):
        read(tmp_path / "old.pth")
    assert not Path(tmp_path / "touched").exists()


class ViewPickler(TorchPickler):
    """As torch < 0.4: the persistent id of a storage ends in (key of the view, start, count)."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, tuple) and obj[:1] == ("storage",):
            obj = (*obj[:5], ("view", 4, 6))
        super().save(obj, save_persistent_id)


def test_views_of_storages_are_followed(tmp_path):
    body, array = io.BytesIO(), np.arange(10, dtype=np.float32)
    ViewPickler(body, legacy=True).dump({"a": Tensor(array, view=(1, (2,), (2,)))})
    with open(tmp_path / "x.pth", "wb") as file:
        for header in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}):
            pickle.dump(header, file, 2)
        file.write(body.getvalue())
        pickle.dump(["0"], file, 2)
        file.write(struct.pack("<q", 10) + array.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "x.pth")["a"], [5, 7])


@containers
@pytest.mark.parametrize("seed", range(0, 120, 10))
def test_mutated_checkpoints_load_or_are_one_sentence(tmp_path, legacy, seed):
    """Ten files for each seed: bytes of the pickle are changed; the archive around it stays whole."""
    target = concrete(variables())
    names = [(name, value.shape) for name, value in weights.to_state_dict(target).items()]
    for dice in map(random.Random, range(seed, seed + 10)):
        net = {name: Tensor(np.ones(shape, np.float32)) for name, shape in names}
        tree = {"model": net, "ema": {f"module.{n}": t for n, t in net.items()}, "best": Tensor(np.float32(3)), "n": 3}
        write(tmp_path / "x.pth", tree, legacy=legacy)
        if legacy:
            data = bytearray((tmp_path / "x.pth").read_bytes())
            change(data, dice)
            (tmp_path / "x.pth").write_bytes(data)
        else:
            with zipfile.ZipFile(tmp_path / "x.pth") as archive:
                entries = {name: bytearray(archive.read(name)) for name in archive.namelist()}
            change(entries["net/data.pkl"], dice)
            with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
                for name, content in entries.items():
                    archive.writestr(name, bytes(content))
        try:
            _, report = weights.load(tmp_path / "x.pth", target, key=dice.choice(["", "model", "ema"]))
            assert len(report.matched) == len(names)
        except UserError as error:
            assert "\n" not in str(error)


def change(data, dice):
    for _ in range(dice.choice((1, 2, 5))):
        data[dice.randrange(len(data))] = dice.randrange(256)
