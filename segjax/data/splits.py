"""The names of splits: stored ones, slices, the published divisions of a dataset, few-shot subsets, and their sums.

    train                    a stored split
    train[:10%]              a slice, as TFDS writes it
    cv2_train                a division that the dataset's metadata names
    train@100,seed=3         100 labelled images, which include those of 50 images and the same seed
    train::10                every 10th label, counted along the split; the other frames stay, as unlabelled ones
    train_sequence           the images of train and their neighbouring frames, if these are stored apart
    cv0_train+train_extra    one after the other

Nothing is copied: a split is a list of rows of stored splits, and of flags for the rows that keep their label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Mapping
from typing import Any, Protocol

import numpy as np

from segjax.errors import UserError, did_you_mean

_FEW = re.compile(r"^(?P<of>[^@]+)@(?P<count>\d+)(,seed=(?P<seed>\d+))?$")
_NAME = re.compile(r"^\w+")
_EVERY = re.compile(r"^(?P<of>.+)::(?P<step>\d+)$")
Rows = list[tuple[str, np.ndarray]]
Parts = list[tuple[str, np.ndarray, np.ndarray]]


class Names(Protocol):
    """Names and labels of the records of a stored split."""

    names: np.ndarray
    labelled: np.ndarray


def division(of: str, *, names: tuple[str, ...] = (), starts: tuple[str, ...] = (), others: bool = False) -> dict:
    """Returns a named split for a dataset's metadata: the records of the split `of` with certain names.

    names: whole names. starts: beginnings of names. Without either: all records.
    others: selects the records with other names instead.
    """
    return {"of": of, "names": list(names), "starts": list(starts), "others": others}


def available(divisions: Mapping[str, Mapping[str, Any]], stored: Collection[str]) -> dict[str, Any]:
    """Returns the divisions that consist of stored splits; stored: their names."""
    return {name: rule for name, rule in divisions.items() if set(rule["of"].split("+")) <= set(stored)}


def with_frames(text: str, known: Container[str]) -> str:
    """Returns a split's expression with NAME_sequence, which has neighbouring frames, in place of each such NAME.

    known: names of stored splits and divisions.
    """
    pieces = (piece.strip() for piece in text.split("+"))
    return "+".join(_NAME.sub(lambda match: _longer(match[0], known), piece, count=1) for piece in pieces)


def _longer(name: str, known: Container[str]) -> str:
    return f"{name}_sequence" if f"{name}_sequence" in known else name


def resolve(
    text: str,
    *,
    name: str,
    stored: Callable[[str], Rows],
    known: tuple[str, ...],
    divisions: Mapping[str, Mapping[str, Any]],
    index: Callable[[str], Names],
) -> Parts:
    """Returns the parts (stored split, rows int64, labelled bool) of a split, in order.

    text: the split's expression.
    name: of the dataset.
    stored: function that reads a stored split, or a slice of one.
    known: names of the stored splits.
    divisions: name -> result of `division`.
    index: function from a stored split to its names and labels.

    Raises UserError for an unknown name, with the nearest one, and for more images than exist.
    """

    def rows(text: str) -> Rows:
        if (few := _FEW.match(text)) is not None:
            return _few(rows(few["of"]), int(few["count"]), int(few["seed"] or 0), text, index)
        if text in divisions:
            parts = [part for piece in divisions[text]["of"].split("+") for part in rows(piece.strip())]
            return _divide(parts, divisions[text], index)
        base = text.partition("[")[0]
        if base in divisions:
            raise UserError(f"split {text!r} slices {base!r}, which is no stored split; write {base}@N for N images")
        if base not in known:
            raise UserError(f"dataset {name} has no split {base!r}.{did_you_mean(base, (*known, *divisions))}")
        return stored(text)

    def one(text: str) -> Parts:
        every = _EVERY.match(text)
        found = rows(every["of"] if every else text)
        labelled = [index(split).labelled[numbers] for split, numbers in found]
        if every:
            labelled = _every(labelled, int(every["step"]), text)
        return [(*part, flags) for part, flags in zip(found, labelled)]

    return [part for piece in text.split("+") for part in one(piece.strip())]


def _every(labelled: list[np.ndarray], step: int, text: str) -> list[np.ndarray]:
    """Returns labelled flags with the middle one of every `step` labels, so that frames lie on both sides of it."""
    total = sum(int(flags.sum()) for flags in labelled)
    if not 0 < step <= total:
        raise UserError(f"split {text!r} takes every {step}th label of {total}; write a number from 1 to {total}")
    kept, before = [], 0
    for flags in labelled:
        number = before + np.cumsum(flags) - 1
        kept.append(flags & (number % step == step // 2))
        before += int(flags.sum())
    return kept


def _divide(rows: Rows, rule: Mapping[str, Any], index: Callable[[str], Names]) -> Rows:
    if not rule["names"] and not rule["starts"]:
        return rows
    chosen = []
    for split, numbers in rows:
        called = index(split).names[numbers].astype(str)
        match = np.isin(called, rule["names"])
        for start in rule["starts"]:
            match |= np.char.startswith(called, start)
        chosen.append((split, numbers[match != rule["others"]]))
    return chosen


def _few(rows: Rows, count: int, seed: int, text: str, index: Callable[[str], Names]) -> Rows:
    labelled = [(split, numbers[index(split).labelled[numbers]]) for split, numbers in rows]
    total = sum(len(numbers) for _, numbers in labelled)
    if not 0 < count <= total:
        raise UserError(f"split {text!r} takes {count} labelled images of {total}; write a number from 1 to {total}")
    keep = np.zeros(total, bool)
    keep[np.random.Generator(np.random.PCG64(seed)).permutation(total)[:count]] = True
    chosen, taken = [], 0
    for split, numbers in labelled:
        chosen.append((split, numbers[keep[taken : taken + len(numbers)]]))
        taken += len(numbers)
    return chosen
