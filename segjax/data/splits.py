"""The names of splits: stored ones, slices, the published divisions of a dataset, few-shot subsets, and their sums.

    train                    a stored split
    train[:10%]              a slice, as TFDS writes it
    cv2_train                a division that the dataset's metadata names
    train@100,seed=3         100 labelled images, which include those of 50 images and the same seed
    train@10%,seed=3         a share of the labelled images: as many as train@N with the nearest N, at least 1
    train@10shot,seed=3      10 images of each class, none twice, which include those of train@1shot (see `few_shot`)
    train::10                every 10th label, counted along the split; the other frames stay, as unlabelled ones
    train::10,first=0        the same from the first label on; without, the middle one of each ten (first=5)
    train_sequence           the images of train and their neighbouring frames, if these are stored apart
    cv0_train+train_extra    one after the other

Nothing is copied: a split is a list of rows of stored splits, and of flags for the rows that keep their label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from segjax.data.few_shot import MIN_PIXELS, choose_shots
from segjax.errors import UserError, did_you_mean

_FEW = re.compile(r"^(?P<of>[^@]+)@(?P<count>[\d.]*)(?P<unit>[^,]*)(?P<options>(,.*)?)$")
_NAME = re.compile(r"^\w+")
_EVERY = re.compile(r"^(?P<of>.+)::(?P<step>[^,]*)(?P<options>(,.*)?)$")
_UNITS = ("shot", "%")
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
    pixels: Callable[[str], np.ndarray],
    class_names: Sequence[str],
) -> Parts:
    """Returns the parts (stored split, rows int64, labelled bool) of a split, in order.

    text: the split's expression.
    name: of the dataset.
    stored: function that reads a stored split, or a slice of one.
    known: names of the stored splits.
    divisions: name -> result of `division`.
    index: function from a stored split to its names and labels.
    pixels: function from a stored split to the pixels of each class in its records, int (n, k).
    class_names: of these k classes.

    Raises UserError for an unknown name, with the nearest one, for more images than exist, and for more shots than a
    class has images.
    """

    def rows(text: str) -> Rows:
        if (few := _FEW.match(text)) is not None:
            found = rows(few["of"])
            labelled = [(split, numbers[index(split).labelled[numbers]]) for split, numbers in found]
            seed = _options(text, few["options"], "seed", 0)
            if few["unit"] == "shot":
                shown = [pixels(split)[numbers] >= MIN_PIXELS for split, numbers in labelled]
                keep = _shots(np.concatenate(shown), _whole(text, few["count"]), seed, text, class_names)
            else:
                keep = _few(sum(len(numbers) for _, numbers in labelled), few["count"], few["unit"], seed, text)
            return _kept(labelled, keep)
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
            labelled = _every(labelled, _whole(text, every["step"]), every["options"], text)
        return [(*part, flags) for part, flags in zip(found, labelled)]

    return [part for piece in text.split("+") for part in one(piece.strip())]


def _whole(text: str, number: str) -> int:
    if not number.isdecimal():
        raise UserError(f"split {text!r} needs a whole number in place of {number!r}, as in train@10shot or train::10")
    return int(number)


def _options(text: str, options: str, known: str, default: int) -> int:
    """Returns the value of the option that this kind of split has, written as ",name=number"."""
    value = default
    for option in options.split(",")[1:]:
        key, _, number = option.strip().partition("=")
        if key != known:
            raise UserError(f"split {text!r} has an unknown option {key!r}.{did_you_mean(key, (known,))}")
        value = _whole(text, number)
    return value


def _every(labelled: list[np.ndarray], step: int, options: str, text: str) -> list[np.ndarray]:
    """Returns labelled flags with one of every `step` labels, the middle one so that frames lie on both sides of it."""
    total = sum(int(flags.sum()) for flags in labelled)
    if not 0 < step <= total:
        raise UserError(f"split {text!r} takes every {step}th label of {total}; write a number from 1 to {total}")
    first = _options(text, options, "first", step // 2)
    if first >= step:
        raise UserError(f"split {text!r}: first={first} must be from 0 to {step - 1}, a number within each {step}")
    kept, before = [], 0
    for flags in labelled:
        number = before + np.cumsum(flags) - 1
        kept.append(flags & (number % step == first))
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


def _kept(rows: Rows, keep: np.ndarray) -> Rows:
    """Returns the rows whose flag in `keep`, bool (all rows,), is set."""
    ends = np.cumsum([len(numbers) for _, numbers in rows])[:-1]
    return [(split, numbers[flags]) for (split, numbers), flags in zip(rows, np.split(keep, ends))]


def _few(total: int, number: str, unit: str, seed: int, text: str) -> np.ndarray:
    """Returns flags of so many, or of a share, of `total` images."""
    if unit not in ("", *_UNITS):
        raise UserError(f"split {text!r} has an unknown unit {unit!r}.{did_you_mean(unit, _UNITS)}")
    if unit:
        try:
            share = Fraction(number)
        except ValueError:
            raise UserError(f"split {text!r} needs a share in place of {number!r}, as in train@10%") from None
        if not 0 < share <= 100:
            raise UserError(f"split {text!r} takes {number}% of {total} labelled images; write a share up to 100%")
        count = max(1, int(share * total / 100 + Fraction(1, 2)))
    else:
        count = _whole(text, number)
    if not 0 < count <= total:
        raise UserError(f"split {text!r} takes {count} labelled images of {total}; write a number from 1 to {total}")
    keep = np.zeros(total, bool)
    keep[np.random.Generator(np.random.PCG64(seed)).permutation(total)[:count]] = True
    return keep


def _shots(shown: np.ndarray, shots: int, seed: int, text: str, class_names: Sequence[str]) -> np.ndarray:
    """Returns flags of so many images of each class. shown: bool (n, k), whether an image is of a class."""
    if shots < 1:
        raise UserError(f"split {text!r} takes no image of any class; write 1 or more, as in train@10shot")
    images = shown.sum(axis=0)
    rarest = int(np.argmin(images))
    found = choose_shots(shown, shots, seed)
    if not found.short:
        return found.keep
    # a class that has too few by itself says more than those that share too few
    short = (rarest,) if images[rarest] < shots else found.short
    named = ", ".join(repr(class_names[c]) for c in short[:8]) + (f" and {len(short) - 8} more" if short[8:] else "")
    alone, there = len(short) == 1, int(shown[:, list(short)].any(axis=1).sum())
    wanted = f"{shots} {'image' if shots == 1 else 'images'} of {'' if alone else 'each of '}{named}"
    ignore = f"ignore {'it' if alone else 'one of them'} in a label_map (train_id 255)"
    raise UserError(
        f"split {text!r} needs {wanted}, but the labelled images with {MIN_PIXELS} pixels or more of "
        f"{'it' if alone else 'any of them'} are only {there}; "
        f"{f'write {found.complete} at most' if found.complete else ignore}, or take images of any class with @N"
    )
