"""The names that a PyTorch checkpoint may refer to, and the inert token that each of them is.

Only the few names that a state dict needs are accepted; every other name is refused before it is imported, so that a
file can neither import nor call anything. No token is or gives a function, type or module of Python, NumPy or PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from segjax.errors import brief, quoted
from segjax.weights.pickle_machine import Refused, Token, run
from segjax.weights.torch_tensors import DTYPES, DType, Tensor, tensor

STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "Untyped": "uint8",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
SYNONYMS = {"double": "float64", "float": "float32", "half": "float16"}
NUMPY_CODES = {
    "f2": "float16", "f4": "float32", "f8": "float64", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "b1": "bool",
}  # fmt: skip
LONGEST = 64  # characters of an argument


class Function(Token):
    """What stands for a function."""

    __slots__ = ("_function",)

    def __init__(self, text: str, function: Callable[..., Any]):
        super().__init__(text)
        self._function = function

    def call(self, args: tuple[Any, ...]) -> Any:
        """Returns what the function gives."""
        return self._function(*args)


class NumpyType(Token):
    """What stands for a numpy.dtype; name: key of DTYPES."""

    __slots__ = ("big_endian", "name")

    def __init__(self, code: Any, *_):
        if type(code) is not str or code not in NUMPY_CODES:
            raise Refused(f"numpy.dtype({quoted(code)})")
        super().__init__(f"numpy.dtype({code!r})")
        self.name, self.big_endian = NUMPY_CODES[code], False

    def build(self, state: Any) -> None:
        """Takes the order of the bytes from (version, order, ...), of which a number needs nothing else."""
        if type(state) is not tuple or len(state) < 2 or type(state[1]) is not str or state[1] not in "<>=|":
            raise ValueError(f"{self.text} with the state {quoted(state)}")
        self.big_endian = state[1] == ">"


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_) -> Tensor:
    return tensor(storage, offset, shape, strides)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_
) -> Tensor:
    if not isinstance(dtype, DType):
        raise ValueError(f"a tensor of the type {quoted(dtype)}")
    return tensor(storage, offset, shape, strides, dtype.name)


def _rebuild_parameter(data: Any, *_) -> Any:
    return data


def _size(values: Any = ()) -> tuple[Any, ...]:
    if type(values) is not tuple:  # a copy of a list could be made again and again
        raise ValueError(f"a torch.Size of {quoted(values)}")
    return values


def _device(*args: Any) -> str:
    if len(args) > 2 or not all(type(arg) in (str, int) and len(str(arg)) <= LONGEST for arg in args):
        raise ValueError(f"a torch.device of {quoted(args)}")
    return ":".join(map(str, args))


def _scalar(kind: Any, data: Any) -> int | float | bool:
    if not isinstance(kind, NumpyType) or type(data) not in (str, bytes):
        raise ValueError(f"a number of numpy that is {quoted(data)}")
    data = data.encode("latin1") if type(data) is str else data
    if len(data) != np.dtype(DTYPES[kind.name]).itemsize:
        raise ValueError(f"a number of {kind.text} that has {len(data)} bytes")
    data = data[::-1] if kind.big_endian else data
    return np.frombuffer(data, np.uint8).view(DTYPES[kind.name])[0].item()


def _encode(text: Any, _: Any = "") -> bytes:
    if type(text) is not str or len(text) > LONGEST:
        raise ValueError(f"the bytes of {quoted(text)}")
    return text.encode("latin1")  # protocol 2 writes the bytes of a numpy scalar so


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("numpy", "dtype"): NumpyType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


def _dtypes() -> dict[tuple[str, str], str]:
    found = {("torch", name): dtype for name, dtype in {**SYNONYMS, **dict(zip(DTYPES, DTYPES))}.items()}
    for name, dtype in STORAGES.items():
        found["torch", f"{name}Storage"] = found["torch.storage", f"{name}Storage"] = dtype
        found["torch", f"{name}Tensor"] = dtype  # in the tar container
    return found


_NAMES: dict[tuple[str, str], Token] = {
    **{key: Function(".".join(key), function) for key, function in _FUNCTIONS.items()},
    **{key: DType(".".join(key), dtype) for key, dtype in _dtypes().items()},
}


def _token(module: str, name: str) -> Token:
    if (module, name) not in _NAMES:
        raise Refused(brief(f"{module}.{name}"))
    return _NAMES[module, name]


def unpickle(file: Any, find: Callable[[Any], Any]) -> Any:
    """Returns the object of the pickle at the position of `file`, and leaves the position at the pickle's end.

    file: see `pickle_machine.run`.
    find: persistent id -> object.

    Raises Refused for a name that no state dict needs, ValueError and others for a damaged pickle.
    """
    return run(file, _token, find)


def no_storage(persistent_id: Any) -> Any:
    """Raises ValueError, in a header that has no storages."""
    raise ValueError(f"persistent id {quoted(persistent_id)} in a header")
