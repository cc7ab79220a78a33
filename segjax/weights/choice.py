"""Which of the dictionaries of tensors in a file is loaded: the one that fits, or the one that the user names."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn, TypeVar

from segjax.errors import UserError, did_you_mean
from segjax.weights import names
from segjax.weights.fit import Fit, Target, compare
from segjax.weights.prefixes import common_part, unwrap
from segjax.weights.report import examples
from segjax.weights.source import Source
from segjax.weights.state_dicts import StateDict, join, plausible, same_tensors

log = logging.getLogger("segjax")

SHOWN = 6  # dictionaries in a sentence
MOST = 64  # dictionaries that are compared with each other; a file made to harm its reader may have any number
MOST_FITS = 4096  # networks that are compared with the leaves
PARTS = 16  # of names that are cut
One = TypeVar("One", StateDict, Fit)


def choose_dict(dicts: Sequence[StateDict], key: str, *, where: str) -> StateDict:
    """Returns the dictionary of a key, or the only plausible one, without looking at a network.

    dicts: of the file, at least one.
    key: see `under`.
    where: the file, for errors.

    Raises UserError for an unknown key, and for several dictionaries.
    """
    left = under(dicts, key, where=where)
    able = left if key and len(left) == 1 else plausible(left)
    if any(not same_tensors(one.tensors, able[0].tensors) for one in able):
        shown = [f"{one.name} ({len(one.tensors)} tensors)" for one in able]
        _refuse(where, "can be meant", shown, f"key={able[0].name!r}")
    return able[0]


def choose_fit(
    dicts: Sequence[StateDict], table: Source, target: Target, *, key: str, where: str, option: str = ""
) -> Fit:
    """Returns the tensors to load: those of `key`, or the only ones that can be meant; logs the choice.

    These are the only ones that fill the network without a problem. If none does, the only ones that fill any leaf,
    whose problems the caller reports. Several with the same values count as one.

    dicts: of the file, at least one.
    table: family of the weights.
    target: leaves to fill.
    key: see `under`.
    where: the file, for errors.
    option: how the user gives a key, such as "train.init.key="; "" if that is not possible.

    Raises UserError for an unknown key, if several can be meant, and for far too many.
    """
    dicts = join(dicts, table.also)
    usual = {id(one) for one in plausible(dicts)}
    networks = ((fit, id(one) in usual) for one in dicts for fit in _fits(one, table, target, where))
    found = list(itertools.islice(networks, MOST_FITS + 1))
    if len(found) > MOST_FITS:
        raise UserError(f"{where} holds more than {MOST_FITS} networks; save model.state_dict() instead.")
    fits = under([fit for fit, _ in found], key, where=where)
    others = fits if key else [fit for fit, likely in found if likely]
    wholes = [fit for fit in fits if fit.is_whole] or list(_without_common_part(others, table, target, where))
    able = _distinct(wholes or [fit for fit in others if fit.report.matched] or others)
    if len(able) > 1:
        count = len(target.leaves)
        shown = [f"{fit.name} ({len(fit.found)} tensors, {len(fit.report.matched)} of {count} leaves)" for fit in able]
        way = f"{option}{able[0].name!r}" if option else ""
        _refuse(where, "fill the network" if wholes else "can be meant", shown, way)
    chosen = able[0]
    rest = [fit.name for fit in others if fit.key != chosen.key]
    if rest or chosen.key:
        left = f", not {examples(rest, SHOWN)}" if rest else ""
        log.info("%s: loading %s (%d tensors)%s", where, chosen.name, len(chosen.found), left)
    for prefix, count in chosen.cut.items():
        log.info("%s: prefix %r cut from %d of %d names", where, prefix, count, len(chosen.found))
    return chosen


def under(found: Sequence[One], key: str, *, where: str) -> list[One]:
    """Returns what a key names: the entries with this key, or all below it; all without a key.

    key: keys of nested dictionaries and prefixes of names, joined by dots; "." is the checkpoint itself.
    where: the file, for errors.

    Raises UserError for a key that nothing has.
    """
    if not key:
        return list(found)
    exact = [one for one in found if one.name == key]
    below = exact or [one for one in found if one.key.startswith(f"{key}.")]
    if not below:
        raise UserError(f"{where} has no tensors under {key!r}.{did_you_mean(key, [one.name for one in found])}")
    return below


def _fits(one: StateDict, table: Source, target: Target, where: str) -> Iterator[Fit]:
    tensors = {name: value for name, value in one.tensors.items() if not re.search(names.IGNORED, name)}
    for network in unwrap(tensors, list(target.leaves)):
        named = {name: tensors[original] for name, original in network.names.items()}
        yield compare(f"{one.key}.{network.key}".strip("."), named, network.cut, table, target, where)


def _without_common_part(fits: Sequence[Fit], table: Source, target: Target, where: str) -> Iterator[Fit]:
    """Yields the fits that fill the network once the first parts that all names share are cut."""
    for fit in fits if len(fits) <= MOST else ():
        found, cut = fit.found, dict(fit.cut)
        for _ in range(PARTS):
            if not (part := common_part(found)):
                break
            found = {name.removeprefix(part): value for name, value in found.items()}
            cut[part] = cut.get(part, 0) + len(found)
            if (other := compare(fit.key, found, cut, table, target, where)).is_whole:
                yield other
                break


def _distinct(fits: Sequence[Fit]) -> list[Fit]:
    kept: list[Fit] = []
    for fit in fits:
        if len(kept) < MOST and not any(same_tensors(fit.found, other.found) for other in kept):
            kept.append(fit)
    return kept


def _refuse(where: str, what: str, found: Sequence[str], way: str) -> NoReturn:
    remedy = f"choose one, as {way} does" if way else "keep one of them in the file"
    raise UserError(f"{where}: {len(found)} dictionaries of tensors {what}: {examples(found, SHOWN)}; {remedy}.")
