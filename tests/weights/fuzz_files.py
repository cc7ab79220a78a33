"""Weight files of all kinds, damaged or made to harm, from a seed; and what reading one of them gives."""

import io
import json
import pickle
import random
import struct
import tarfile
import zipfile

import numpy as np
import safetensors.numpy

from segjax import weights
from segjax.errors import UserError
from segjax.weights.runs import read_meta
from tests.weights.test_hostile_files import tar, write_pickle
from tests.weights.test_torch_file import Tensor, write

KINDS = ("zip", "stream", "tar", "npz", "safetensors", "program", "program in a stream", "index")
SUFFIXES = {"npz": ".npz", "safetensors": ".safetensors", "index": ".safetensors.index.json"}
NUMBERS = (0, 1, -1, 2, 3, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
NAMES = (
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter",
    "torch FloatStorage", "torch bfloat16", "torch float32", "torch.storage UntypedStorage", "torch Size",
    "torch device", "numpy dtype", "numpy.core.multiarray scalar", "_codecs encode", "collections OrderedDict",
    "os system", "builtins getattr", "numpy load",
)  # fmt: skip
WORDS = (
    "storage", "0", "1", "cpu", "f4", "f8", "f4,f4", "(2,)f4", "M8[s]", "latin1", "<", "a.weight", "\n\x00", "k" * 600,
)  # fmt: skip


def text(word):
    data = word.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def name(pair):
    return b"c" + pair.replace(" ", "\n").encode() + b"\n"


STORAGE = b"(" + text("storage") + name(NAMES[3]) + text("0") + text("cpu") + number(4) + b"tQ"
TENSOR = name(NAMES[0]) + b"(" + STORAGE + number(0) + b"K\x02K\x02\x86" + b"K\x02K\x01\x86" + b"\x89}tR"
DOUBLED = b")" + b"2\x86" * 50  # a tuple of itself, fifty times: 2^50 empty tuples for what looks at each
STATE = b"(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"  # of a numpy.dtype
HOSTILE = (
    b"}" + DOUBLED + b"Ns", b"\x8f(" + DOUBLED + b"\x90", b"(" + DOUBLED + b"\x91", DOUBLED + b"Q",
    b"(" + text("storage") + name(NAMES[3]) + DOUBLED + text("cpu") + b"K\x04tQ", name(NAMES[4]) + STATE + b"b",
    name("torch device") + DOUBLED + b"\x85R", name("numpy dtype") + DOUBLED + b"\x85R",
    name("torch Size") + DOUBLED + b"\x85R", name("numpy dtype") + text("f4") + b"\x85R" + STATE + b"b",
    *(name(NAMES[1]) + b"(" + STORAGE + b"K\x01K\x04\x85K\x01\x85\x89}" + text(w) + b"tR" for w in WORDS[5:9]),
    name(NAMES[0]) + b"(" + STORAGE + DOUBLED + b"K\x04\x85K\x01\x85\x89}tR", name(NAMES[0]) + b"}Nb",
)  # fmt: skip
PIECES = (
    b"N", b"\x88", b"]", b"}", b")", b"\x8f", b"(", b"0", b"2", b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"b", b"R",
    b"Q", b"1", b"o", b"\x81", b"\x85", b"\x86", b"\x87", b"\x90", b"\x91", b"\x93", b"\x94", b"q\x00", b"h\x00",
    b"q\x01", b"h\x01", b"2\x86" * 40, b"]h\x00a", b"G\x7f\xf0\0\0\0\0\0\0", STORAGE, TENSOR, TENSOR, b"b", b"R",
)  # fmt: skip


def tensor(dice):
    """A tensor over a storage of 16 bytes, often inside it."""
    numbers = (0, 1, 1, 2, 2, dice.choice(NUMBERS) if dice.random() < 0.2 else 1)
    sizes, strides = ([dice.choice(numbers) for _ in range(dice.randrange(3))] for _ in range(2))
    strides = strides if dice.random() < 0.1 else (strides + [1, 1])[: len(sizes)]
    kind = dice.choice(("torch float32", "torch float64", "torch bfloat16", "torch bool", "torch complex64"))
    view = [number(dice.choice(numbers)), *(b"(" + b"".join(map(number, ns)) + b"t" for ns in (sizes, strides))]
    three = dice.random() < 0.5
    return name(NAMES[three]) + b"(" + STORAGE + b"".join(view) + b"\x89}" + name(kind) * three + b"tR"


def value(dice, depth=3):
    """An object of the kinds that checkpoints have; now and then it has a wrong part, or one that is made to harm."""
    if dice.random() < 0.05:
        return dice.choice(HOSTILE)
    way = dice.randrange(8 if depth else 4)
    if way < 4:
        plain = (tensor(dice), tensor(dice), number(dice.choice(NUMBERS)), text(dice.choice(WORDS)), b"N", b"\x88")
        return dice.choice((*plain, name(dice.choice(NAMES)), dice.choice(PIECES)) if dice.random() < 0.2 else plain)
    parts = [value(dice, depth - 1) for _ in range(dice.randrange(4))]
    if way == 4:
        return b"(" + b"".join(parts) + b"t"
    if way == 5:
        return b"](" + b"".join(parts) + b"e"
    if way == 6 and dice.random() < 0.2:
        return name(dice.choice(NAMES)) + b"(" + b"".join(parts) + b"t" + dice.choice((b"R", b"b", b"\x81"))
    keys = [text(dice.choice(WORDS[:-1])) if dice.random() < 0.97 else value(dice, 0) for _ in parts]
    return b"}(" + b"".join(key + part for key, part in zip(keys, parts)) + b"u"


def program(dice):
    """A pickle of objects that checkpoints have, or of random instructions that their pickles are made of."""
    if dice.random() < 0.6:
        return b"\x80\x02}(" + b"".join(text(f"{i}.weight") + value(dice) for i in range(3)) + b"u."
    body = b"\x80\x02" + dice.choice((b"}", b"](", b"}(", b"}" + text("a")))
    for _ in range(dice.randrange(1, 30)):
        kind = dice.randrange(6)
        if kind == 0:
            body += number(dice.choice(NUMBERS))
        elif kind == 1:
            body += name(dice.choice(NAMES))
        elif kind == 2:
            body += text(dice.choice(WORDS))
        else:
            body += dice.choice(PIECES)
    return body + dice.choice((b".", b"s.", b"u.", b"e.", b"R.", b"tR.", b"sb."))


def whole(kind, path, dice):
    """Writes an honest file."""
    arrays = {f"layer{i}.weight": np.ones((i + 1, 3), dice.choice("fdeil?")) for i in range(dice.randrange(1, 4))}
    tree = {"state_dict": {n: Tensor(np.ones(3, np.float32)) for n in arrays}, "epoch": 3, "lr": [0.1, (2, None)]}
    if kind in ("zip", "stream"):
        write(path, tree, legacy=kind == "stream")
    elif kind == "tar":
        tree = {"state_dict": {"a.weight": ("tensor", 21)}}
        tar(path, {11: np.ones(12, np.float32)}, [(12, 11, 6, 6)], {21: (12, (3, 2), (1, 3), 0)}, tree)
    elif kind == "npz":
        dice.choice((np.savez, np.savez_compressed))(path, **arrays)
    elif kind == "safetensors":
        model = {"name": "fastscnn", "num_classes": 3, "options": {"aux": True}}
        info = {"model": model, "step": 3, "normalisation": "imagenet"}
        safetensors.numpy.save_file(arrays, path, metadata={"segjax": json.dumps(info)})
    elif kind == "index":
        path.write_text(json.dumps({"weight_map": {"a.weight": "a.safetensors", "b": "../b"}}))
    else:
        body, stored = program(dice), struct.pack("<q4f", 4, 0, 1, 2, 3)
        write_pickle(path, body, kind != "program", **{"data/0": stored[8:]})
        if kind != "program":  # its storage comes after the list of keys
            without = path.read_bytes().removesuffix(pickle.dumps([], 2))
            path.write_bytes(without + pickle.dumps(["0"] if STORAGE in body else [], 2) + stored)


def damage(data, dice):
    """Returns bytes of which some are changed, cut, doubled or replaced by numbers and instructions that harm."""
    data = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 5, 20))):
        place = dice.randrange(len(data) + 1)
        way = dice.randrange(6)
        if way == 0:
            data[place : place + 1] = bytes([dice.randrange(256)])
        elif way == 1:
            data[place : place + 8] = (dice.choice(NUMBERS) % 2**64).to_bytes(8, dice.choice(("little", "big")))
        elif way == 2:
            data[place:place] = dice.choice(PIECES)
        elif way == 3:
            data[place:place] = data[place : place + dice.randrange(64)] * dice.choice((1, 2, 9))
        elif way == 4:
            del data[place : place + dice.randrange(9)]
        else:
            data[place : place + 1] = dice.choice((b"9", b"[", b"{", b"\0", b'"', b"Infinity", b"1e999", b"-1"))
    return bytes(data[: dice.randrange(len(data) + 1)] if dice.random() < 0.1 else data)


def parts_of(path):
    """Name -> content of what an archive holds, and a function that stores it again; None for other files."""
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}

        def store(entries):
            with zipfile.ZipFile(path, "w") as archive:
                for entry, content in entries.items():
                    archive.writestr(entry, content)

        return entries, store
    if path.suffix == ".pth" and tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            entries = {member.name: archive.extractfile(member).read() for member in archive}

        def store(entries):
            with tarfile.open(path, "w:") as archive:
                for entry, content in entries.items():
                    member = tarfile.TarInfo(entry)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

        return entries, store
    if path.suffix == ".safetensors":  # the header's length is kept right
        size = int.from_bytes(data[:8], "little")
        return {"header": data[8 : 8 + size], "": data[8 + size :]}, lambda parts: path.write_bytes(
            len(parts["header"]).to_bytes(8, "little") + parts["header"] + parts[""]
        )
    return None


def header(kind, count=0, sparse=0):
    """The header of a tar member of `count` bytes; sparse: bytes that it stands for."""
    member = tarfile.TarInfo("storages")
    member.type, member.size = kind, count
    data = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    if sparse:
        data[386:410], data[483:495] = b"%011o\0%011o\0" % (0, 0), b"%011o\0" % sparse
        data[148:156] = b"%06o\0 " % (sum(data) - sum(data[148:156]) + 8 * 32)
    return bytes(data)


HEADERS = (
    header(b"L") * 3000, header(b"x") * 3000, header(b"S", sparse=2**32), header(b"2"), header(b"1"), header(b"5"),
    header(b"L", 2**32), header(b"0", 2**32), header(b"0"),
)  # fmt: skip


def make(seed, folder):
    """Writes the file of a seed and returns its path: half of them are damaged inside an archive that stays whole."""
    dice = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    path = folder / f"x{SUFFIXES.get(kind, '.pth')}"
    whole(kind, path, dice)
    if kind.startswith("program") and dice.random() < 0.8:
        return path
    if kind == "tar" and dice.random() < 0.3:
        path.write_bytes(dice.choice(HEADERS) + path.read_bytes())
        return path
    found = parts_of(path) if dice.random() < 0.6 else None
    if found is None:
        path.write_bytes(damage(path.read_bytes(), dice))
    else:
        entries, store = found
        entry = dice.choice(sorted(entries))
        store({**entries, entry: damage(entries[entry], dice)})
    return path


def outcome(path):
    """Returns "result" or "refused" of reading a file. Raises whatever else happens, and for what is no sentence."""
    ways = [weights.read, read_meta] if path.suffix == ".safetensors" else [weights.read]
    outcomes = set()
    for way in ways:
        try:
            found = way(path)
        except UserError as error:
            sentence = str(error)
            assert path.name in sentence and "\n" not in sentence and len(sentence) < 1500, sentence[:2000]
            outcomes.add("refused")
        else:
            if way is weights.read:
                assert all(array.dtype.kind in "biufcVUS" and array.nbytes <= 2**30 for array in found.values())
                pickle.dumps(found)  # every value can be read
            outcomes.add("result")
    return "result" if "result" in outcomes else "refused"
