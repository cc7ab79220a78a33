"""A machine for pickles that makes plain containers, text and numbers, and tokens of ours for everything else.

Python's own unpickler imports names, hashes any key and lets the file set attributes of what it was given, so that
twenty bytes can hang or change the process. This one follows the same instructions, read by `pickletools`. Keys are
bounded text and numbers, only lists, dicts and sets are filled, and a name gives a token that nothing can change. The
number of instructions and of objects is limited, as one byte of a pickle makes an object of 200.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from segjax.errors import quoted

MAX_INSTRUCTIONS = 2**23  # a checkpoint has about 40 for each tensor
MAX_OBJECTS = 2**20  # containers and results of calls
MAX_KEY = 512  # characters of a key, such as the name of a tensor
MAX_BITS = 1024  # of a whole number; the states of random generators have 128


class Refused(Exception):
    """An error: the pickle refers to a name, or asks for a call, that no state dict needs."""


class Token:
    """What a pickle is given for a name: it may be called or given a state only where a subclass allows it."""

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text

    def call(self, args: tuple[Any, ...]) -> Any:
        """Returns what a call of the name stands for. Raises Refused by default."""
        raise Refused(f"a call of {self.text}")

    def build(self, state: Any) -> None:
        """Takes the state that the pickle has for it. Raises Refused by default."""
        raise Refused(f"a state for {self.text}")


def check_key(key: Any) -> Any:
    """Returns a key of a dict or set. Raises ValueError unless it is short text, a number or None."""
    if type(key) not in (str, int, float, bool, type(None)):
        raise ValueError(f"a key that is {quoted(key)}, neither text nor a number")
    if type(key) is str and len(key) > MAX_KEY:
        raise ValueError(f"the key {quoted(key)} of {len(key)} characters")
    return key


def run(file: Any, names: Callable[[str, str], Any], find: Callable[[Any], Any]) -> Any:
    """Returns the object of the pickle at the position of `file`, and leaves the position at the pickle's end.

    file: binary; it must return at most what is left of it (io.BytesIO, `archives.Bounded`).
    names: (module, name) -> token.
    find: persistent id -> object; the id may be anything that this machine makes.

    Raises Refused for what no state dict needs, ValueError and others for a damaged pickle.
    """
    machine, start = _Machine(names, find), file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MAX_INSTRUCTIONS:
            raise ValueError(f"a pickle of more than {MAX_INSTRUCTIONS} instructions")
        if "PUT" in opcode.name and int(argument) > file.tell() - start:
            raise ValueError(f"a pickle whose memo has {int(argument)} entries")
        if opcode.name == "STOP":
            break
        if opcode.name not in _INSTRUCTIONS:
            raise ValueError(f"a pickle with the instruction {opcode.name}")
        _INSTRUCTIONS[opcode.name](machine, argument)
    return machine.pop()


class _Machine:
    """The state of one pickle. stack: objects and marks. memo: number -> object."""

    def __init__(self, names: Callable[[str, str], Any], find: Callable[[Any], Any]):
        self.names, self.find = names, find
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.objects = 0

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def make(self, value: Any) -> None:
        """Pushes a new object, which is counted."""
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise ValueError(f"a pickle of more than {MAX_OBJECTS} objects")
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("a pickle that takes more than it has put down")
        return self.stack.pop()

    def top(self) -> Any:
        self.push(found := self.pop())
        return found

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("a pickle without the mark that it goes back to")
        height = self.marks.pop()
        found = self.stack[height:]
        del self.stack[height:]
        return found

    def pop_several(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]


def _number(machine: _Machine, value: int) -> None:
    if value.bit_length() > MAX_BITS:
        raise ValueError(f"a number of {value.bit_length()} bits")
    machine.push(value)


def _append(machine: _Machine, values: Iterable[Any]) -> None:
    if type(target := machine.top()) is not list:
        raise ValueError(f"{quoted(target)} where a list is filled")
    target.extend(values)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    if type(target := machine.top()) not in (dict, OrderedDict):
        raise ValueError(f"{quoted(target)} where a dict is filled")
    _fill(target, items)


def _fill(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a dict with a key that has no value")
    for key, value in zip(items[::2], items[1::2]):
        target[check_key(key)] = value
    return target


def _add_items(machine: _Machine, items: list[Any]) -> None:
    if type(target := machine.top()) is not set:
        raise ValueError(f"{quoted(target)} where a set is filled")
    target.update(map(check_key, items))


def _ordered(items: list[Any]) -> OrderedDict[Any, Any]:
    """Returns the dict of a list of pairs, as Python 2 pickles it."""
    if type(items) is not list or not all(type(item) in (list, tuple) and len(item) == 2 for item in items):
        raise ValueError("an OrderedDict that is not made of pairs")
    return OrderedDict((check_key(key), value) for key, value in items)


def _call(machine: _Machine, function: Any, args: Any) -> None:
    if type(args) is not tuple:
        raise ValueError(f"a call with {quoted(args)} for arguments")
    if function is OrderedDict:
        items = args[0] if args else []
        machine.objects += len(items) if type(items) is list else 0  # the same list can be given again and again
        machine.make(_ordered(items))
    elif isinstance(function, Token):
        machine.make(function.call(args))
    else:
        raise ValueError(f"a call of {quoted(function)}")


def _build(machine: _Machine, state: Any) -> None:
    target = machine.top()
    if isinstance(target, Token):
        target.build(state)
    elif type(target) is not OrderedDict:  # that of a state dict is its version, which nothing needs
        raise ValueError(f"a state for {quoted(target)}")


def _name(machine: _Machine, module: Any, name: Any) -> None:
    if type(module) is not str or type(name) is not str:
        raise ValueError("a name that is no text")
    machine.push(OrderedDict if (module, name) == ("collections", "OrderedDict") else machine.names(module, name))


def _new(machine: _Machine, items: list[Any]) -> None:
    _call(machine, items[0] if items else None, tuple(items[1:]))


def _new_with_keywords(machine: _Machine, function: Any, args: Any, keywords: Any) -> None:
    if type(keywords) is not dict or keywords:
        raise ValueError("a call with keywords")
    _call(machine, function, args)


Instruction = Callable[[_Machine, Any], Any]
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN = (
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_INSTRUCTIONS: dict[str, Instruction] = {
    **{name: lambda m, _, value=value: m.push(value) for name, value in _VALUES.items()},
    **dict.fromkeys(_PLAIN, _Machine.push),
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, place: m.memo.__setitem__(int(place), m.top())),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[int(place)])),
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.top()),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop() if len(m.stack) > (m.marks[-1] if m.marks else 0) else m.pop_to_mark(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.push(m.top()),
    "EMPTY_LIST": lambda m, _: m.make([]),
    "LIST": lambda m, _: m.make(m.pop_to_mark()),
    "APPEND": lambda m, _: _append(m, [m.pop()]),
    "APPENDS": lambda m, _: _append(m, m.pop_to_mark()),
    "EMPTY_TUPLE": lambda m, _: m.make(()),
    "TUPLE": lambda m, _: m.make(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.make(tuple(m.pop_several(1))),
    "TUPLE2": lambda m, _: m.make(tuple(m.pop_several(2))),
    "TUPLE3": lambda m, _: m.make(tuple(m.pop_several(3))),
    "EMPTY_DICT": lambda m, _: m.make({}),
    "DICT": lambda m, _: m.make(_fill({}, m.pop_to_mark())),
    "SETITEM": lambda m, _: _set_items(m, m.pop_several(2)),
    "SETITEMS": lambda m, _: _set_items(m, m.pop_to_mark()),
    "EMPTY_SET": lambda m, _: m.make(set()),
    "ADDITEMS": lambda m, _: _add_items(m, m.pop_to_mark()),
    "FROZENSET": lambda m, _: m.make(frozenset(map(check_key, m.pop_to_mark()))),
    "GLOBAL": lambda m, text: _name(m, *text.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: _name(m, *m.pop_several(2)),
    "REDUCE": lambda m, _: _call(m, *m.pop_several(2)),
    "NEWOBJ": lambda m, _: _call(m, *m.pop_several(2)),
    "NEWOBJ_EX": lambda m, _: _new_with_keywords(m, *m.pop_several(3)),
    "OBJ": lambda m, _: _new(m, m.pop_to_mark()),
    "INST": lambda m, text: (_name(m, *text.split(" ", 1)), _call(m, m.pop(), tuple(m.pop_to_mark()))),
    "BUILD": lambda m, _: _build(m, m.pop()),
    "PERSID": lambda m, text: m.make(m.find(text)),
    "BINPERSID": lambda m, _: m.make(m.find(m.pop())),
}
