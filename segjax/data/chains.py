"""Chains: the neighbouring frames that a label is propagated to, and the reason why each chain ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from segjax.errors import UserError


class FrameTable(Protocol):
    """Facts about n frames that need no frame decoded; `segjax.data.tfds_index.Index` is one.

    names, sequences: n strings.
    frames: int (n,), position in the sequence.
    sizes: int (n, 2), height and width.
    labelled: bool (n,).
    """

    names: Sequence[str]
    sequences: Sequence[str]
    frames: np.ndarray
    sizes: np.ndarray
    labelled: np.ndarray


INPUTS = ("published", "near")  # see `Chain.inputs`


@dataclasses.dataclass(frozen=True)
class Chain:
    """A labelled frame t and the frames its label is propagated to, in one direction.

    record: number of frame t.
    direction: +1 for later, -1 for earlier frames.
    before: record of t - direction, None if there is none.
    records: of t + direction, t + 2 direction, ...; may be empty.
    end: why there are no more, one of ENDS; "" if there are as many as requested.
    """

    record: int
    direction: int
    before: int | None
    records: tuple[int, ...]
    end: str = ""

    def cut(self, steps: int, end: str) -> Chain:
        """Returns the first `steps` steps of the chain; end: the reason."""
        return dataclasses.replace(self, records=self.records[:steps], end=end)

    def inputs(self, step: int, kind: str = "published") -> tuple[int | None, int, int]:
        """Returns the records of the three real frames of step p (numbered from 1): before, source, target.

        Step 1: t - 1, t, t + 1. Later steps:
        kind "published": t, t + p - 1, t + p, so that the first gap grows with p;
        kind "near": t + p - 2, t + p - 1, t + p, as far apart as in the triples that a network was trained on.
        """
        if step == 1:
            return self.before, self.record, self.records[0]
        before = self.record if step == 2 or kind == "published" else self.records[step - 3]
        return before, self.records[step - 2], self.records[step - 1]


# reasons why a chain ends, for counts and lists
SEQUENCE_END = "the sequence ends"
MISSING = "a frame is missing"
SIZE = "a frame has another size"
CUT = "the scene changes"
ENDS = (SEQUENCE_END, MISSING, SIZE, CUT)


def find_chains(
    table: FrameTable, *, steps: int, needs_before: bool, directions: Sequence[int] = (1, -1), frame_step: int = 0
) -> list[Chain]:
    """Returns the chains of all labelled frames, in the order of the table, forward before backward.

    table: of the frames.
    steps: length K of the longest chain.
    needs_before: a chain without frame t - direction is empty, because its first step reads that frame.
    directions: 1 (later frames), -1 (earlier ones) or both.
    frame_step: difference between the numbers of neighbouring frames; 0: the smallest that occurs.

    Raises UserError if no frame is labelled, two frames share a number, or no frame has a neighbour.
    """
    if steps < 1:
        raise UserError(
            f"steps={steps} must be 1 or more, the number of frames a label is propagated to on either side."
        )
    if not set(directions) <= {1, -1} or not directions:
        raise UserError(f"directions={tuple(directions)} must hold 1 (later frames), -1 (earlier ones) or both.")
    places, ends = places_of(table)
    frame_step = frame_step or smallest_distance(table)
    labelled = np.flatnonzero(table.labelled)
    if not len(labelled):
        raise UserError(f"none of the {len(table.names)} frames is labelled; there is nothing to propagate.")

    def neighbour(record: int, offset: int) -> tuple[int | None, str]:
        sequence, frame = table.sequences[record], int(table.frames[record]) + offset * frame_step
        found = places.get((sequence, frame))
        if found is None:
            first, last = ends[sequence]
            return None, MISSING if first <= frame <= last else SEQUENCE_END
        if tuple(table.sizes[found]) != tuple(table.sizes[record]):
            return None, SIZE
        return found, ""

    chains = []
    for record in map(int, labelled):
        for direction in directions:
            before, why = neighbour(record, -direction)
            records: list[int] = []
            end = why if needs_before and before is None else ""
            while not end and len(records) < steps:
                found, end = neighbour(record, direction * (len(records) + 1))
                records += [] if found is None else [found]
            chains.append(Chain(record, direction, before, tuple(records), end))
    return chains


def describe_end(chain: Chain, table: FrameTable) -> str:
    """Returns one line for a list: "seq_000012 -> step +3: a frame is missing"."""
    return f"{table.names[chain.record]} -> step {chain.direction * (len(chain.records) + 1):+d}: {chain.end}"


def places_of(table: FrameTable) -> tuple[dict[tuple[str, int], int], dict[str, tuple[int, int]]]:
    """Returns (sequence, frame) -> record, and sequence -> (first, last frame).

    Raises UserError if two frames share a number.
    """
    places: dict[tuple[str, int], int] = {}
    ends: dict[str, tuple[int, int]] = {}
    for record, (sequence, frame) in enumerate(zip(table.sequences, map(int, table.frames))):
        if (sequence, frame) in places:
            other = table.names[places[sequence, frame]]
            raise UserError(
                f"{table.names[record]} and {other} are both frame {frame} of sequence {str(sequence)!r}; number the "
                "frames of a video differently, or give every video its own sequence."
            )
        places[sequence, frame] = record
        first, last = ends.get(sequence, (frame, frame))
        ends[sequence] = min(first, frame), max(last, frame)
    return places, ends


def smallest_distance(table: FrameTable) -> int:
    """Returns the smallest difference between the numbers of two frames of a sequence.

    Raises UserError if no sequence has two frames.
    """
    order = np.lexsort((table.frames, table.sequences))
    frames, sequences = np.asarray(table.frames)[order], np.asarray(table.sequences)[order]
    distances = np.diff(frames)[sequences[1:] == sequences[:-1]]
    if not len(distances):
        raise UserError(
            "no frame has a neighbour in its sequence, so nothing can be propagated; use a dataset of videos, and a "
            "split that holds their unlabelled frames too."
        )
    return int(distances.min())
