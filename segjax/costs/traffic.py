"""Bytes between a TPU's chip and its memory, read from the text of a compiled program.

XLA's own figure, "bytes accessed", counts every array that an instruction reads or writes. The compiler of TPUs keeps
many of them in the memory of the core (128 MiB on v5e), which costs no bandwidth: of a small step nearly all.
"""

from __future__ import annotations

from segjax.costs.hlo import Instruction, instructions

# they name arrays of other instructions; the end of a copy is counted at its start
_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "optimization-barrier", "while",
    "conditional", "call", "partition-id", "replica-id",
)  # fmt: skip


def memory_traffic(text: str) -> int:
    """Returns the bytes that one device reads from and writes to its memory in a call of the program.

    text: `as_text()` of the compiled program. An operand of which a fusion reads a part counts whole.
    """
    found = [one for one in instructions(text) if not one.fused]
    arrays = {one.name: one for one in found}
    return sum(one.runs * _traffic(one, arrays) for one in found if one.opcode not in _FREE)


def _traffic(one: Instruction, known: dict[str, Instruction]) -> int:
    if one.opcode.endswith("-done"):
        return 0
    if one.opcode in ("copy-start", "slice-start"):  # (result, operand, context), (operands, result, context)
        result = one.arrays[0 if one.opcode == "copy-start" else 1]
        source = known[one.operands[0]].arrays if one.operands and one.operands[0] in known else ()
        # what is copied has the size of the result, on whichever side the memory is
        sides = [result.on_chip, *(array.on_chip for array in source[:1])]
        return result.size * sides.count(False)
    written = sum(array.size for array in one.arrays if not array.on_chip)
    read = [known[name] for name in one.operands if name in known]
    return written + sum(array.size for other in read for array in other.arrays if not array.on_chip)
