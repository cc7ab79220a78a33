"""The text of a compiled program, as `as_text()` returns it: instructions, their arrays, and how often each runs."""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<opcode>[a-z][\w\-]*)\((?P<operands>[^)]*)",
    re.ASCII,
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_CALLED_LISTS = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Array(NamedTuple):
    """The type of an array: "f32", "64,32", and a layout such as "1,0:T(8,128)S(1)"."""

    dtype: str
    shape: str
    layout: str

    @property
    def size(self) -> int:
        """Bytes, without padding."""
        bits = _BITS.get(self.dtype)
        if bits is None:
            digits = re.search(r"\d+", self.dtype)
            bits = int(digits[0]) if digits else 8
        sides = [int(side.lstrip("<=")) for side in self.shape.split(",") if side]
        return -(-bits * math.prod(sides) // 8)

    @property
    def on_chip(self) -> bool:
        """Whether a TPU keeps it in the memory of its core: a memory space other than 0, the device's."""
        return re.search(r"S\([1-9]", self.layout) is not None

    def __str__(self) -> str:
        return f"{self.dtype}[{self.shape}]"


class Instruction(NamedTuple):
    """One instruction of a computation.

    name, opcode: such as "all-reduce.5", "all-reduce".
    arrays: of its result, flattened.
    operands: names of instructions.
    line: the text.
    runs: how often a call of the program runs it; a loop whose length XLA does not know counts once.
    fused: whether it is inside a fusion or a reduction, whose arrays have no memory.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    line: str
    runs: int
    fused: bool

    @property
    def operation(self) -> str:
        """Where it is from, such as "jit(step)/transpose(jvp(Net))/conv1/..."; "" if XLA added it."""
        found = re.search(r'op_name="([^"]*)"', self.line)
        return found[1] if found else ""


def devices_of(text: str) -> int:
    """Returns the number of devices that a program is compiled for."""
    return math.prod(map(int, re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", text.partition("\n")[0])))


def instructions(text: str) -> list[Instruction]:
    """Returns the instructions that a call of the program runs."""
    found, calls, entry, here, fused = [], defaultdict(list), "", "", set()
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            here = header[2]
            entry = here if header[1] else entry
        elif match := _INSTRUCTION.match(line):
            found.append((here, match, line))
            trips = int(trip[1]) if (trip := _TRIPS.search(line)) else 1
            for name, inner in _called(line, match["opcode"]):
                calls[here].append((name, trips))
                fused |= {name} if inner else set()
    runs = _runs(entry, calls)
    for caller in reversed(list(calls)):  # what a fused computation calls is fused too; callers stand below in the text
        if caller in fused:
            fused |= {name for name, _ in calls[caller]}
    return [
        Instruction(
            match["name"],
            match["opcode"],
            tuple(Array(dtype, shape, layout) for dtype, shape, layout in _ARRAY.findall(match["type"])),
            tuple(re.findall(r"%([\w.\-]+)", match["operands"])),
            line,
            runs[where],
            where in fused,
        )
        for where, match, line in found
        if runs.get(where)
    ]


def _called(line: str, opcode: str) -> list[tuple[str, bool]]:
    """Returns (computation, whether its arrays have no memory) for what an instruction calls."""
    inner = opcode not in ("call", "while", "conditional", "async-start")
    names = [(name, inner) for _, name in _CALLED.findall(line)]
    for group in _CALLED_LISTS.findall(line):
        names += [(name.strip().removeprefix("%"), inner) for name in group.split(",") if name.strip()]
    return names


def _runs(entry: str, calls: Mapping[str, list[tuple[str, int]]]) -> dict[str, int]:
    """Returns computation -> how often a call of the program runs it."""
    callers = defaultdict(list)
    for caller, called in calls.items():
        for name, trips in called:
            callers[name].append((caller, trips))

    @functools.cache
    def runs(name: str) -> int:
        return 1 if name == entry else sum(runs(caller) * trips for caller, trips in callers[name])

    return {name: runs(name) for name in (entry, *callers)}
