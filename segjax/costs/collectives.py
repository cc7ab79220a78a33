"""Communication of a compiled program between its devices, read from the text of the HLO after partitioning.

    found = collectives(compiled.as_text())
    totals(found)["all-reduce"].count
    [one for one in found if one.kind == "all-gather" and one.payload > 2**20]

A program compiled for n devices is the program of each of them, so that counts and bytes are those of one device.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

from segjax.costs.hlo import Instruction, devices_of, instructions

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction that exchanges arrays between devices.

    kind: one of KINDS.
    arrays: types of the results, such as "f32[64,32]".
    payload: bytes of the whole value on one device: what an all-reduce sums, what an all-gather returns, what a
        reduce-scatter reads, what the others return.
    group: number of devices that exchange it; 2 for a permutation.
    times: how often a call of the program runs it; a loop whose length XLA does not know counts once.
    operation: where it is from, such as "jit(step)/transpose(jvp(Net))/conv1/...".
    """

    kind: str
    arrays: tuple[str, ...]
    payload: int
    group: int
    times: int
    operation: str

    @property
    def sent(self) -> float:
        """Bytes that a device must send in one run at least, in a ring or any other way."""
        others = (self.group - 1) / self.group
        return self.payload * {"all-reduce": 2 * others, "collective-permute": 1.0, "collective-broadcast": 1.0}.get(
            self.kind, others
        )


@dataclasses.dataclass(frozen=True)
class Total:
    """Collectives of one kind in a call of the program.

    count: how many run.
    payload, sent: sums of `Collective.payload` and `Collective.sent`, bytes.
    """

    count: int
    payload: int
    sent: float


def collectives(text: str) -> list[Collective]:
    """Returns the collectives of a compiled program, those with a group of 1 device left out.

    text: `as_text()` of the compiled program.
    """
    everyone = devices_of(text)
    found = [_read(one, everyone) for one in instructions(text) if one.opcode.removesuffix("-start") in KINDS]
    return [one for one in found if one.group > 1]


def totals(found: Iterable[Collective]) -> dict[str, Total]:
    """Returns kind -> total, of the kinds that occur, in the order of KINDS."""
    result = {}
    for kind in KINDS:
        if same := [one for one in found if one.kind == kind]:
            result[kind] = Total(
                sum(one.times for one in same),
                sum(one.times * one.payload for one in same),
                sum(one.times * one.sent for one in same),
            )
    return result


def _read(one: Instruction, everyone: int) -> Collective:
    kind, arrays = one.opcode.removesuffix("-start"), one.arrays
    if one.opcode != kind:  # the result of a start has its operands too
        if kind == "collective-permute":
            arrays = arrays[1:2]
        elif kind != "all-reduce":
            arrays = arrays[len(arrays) // 2 :]
    group = _group(one.line, everyone) if kind != "collective-permute" else 2 if _moves(one.line) else 1
    payload = sum(array.size for array in arrays)
    return Collective(
        kind,
        tuple(map(str, arrays)),
        payload * group if kind == "reduce-scatter" else payload,
        group,
        one.runs,
        one.operation,
    )


def _group(line: str, everyone: int) -> int:
    """Returns the number of devices in a group.

    XLA writes groups as {{0,1},{2,3}}, as [2,2]<=[4] (groups, size), as axes of a mesh: mesh['x'=2,'y'=4] {'x'}, of
    which an axis may be cut: {'y':(1)2} (sizes before, size); {} is one group of all.
    """
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(match[1].split(","))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", line):
        return int(match[2])
    if match := re.search(r"replica_groups=@?mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2])
        return math.prod(int(part or sizes[name]) for name, part in axes)
    return everyone


def _moves(line: str) -> bool:
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}?(?:,|$)", line)
    return pairs is None or any(a != b for a, b in re.findall(r"\{(\d+),(\d+)", "{" + pairs[1] + "}"))
