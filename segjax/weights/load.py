"""Fills the variables of a network from a weight file and says exactly what it did."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError, did_you_mean
from segjax.typing import Variables
from segjax.weights import names
from segjax.weights.families import SOURCES
from segjax.weights.read import read
from segjax.weights.report import LoadReport, Mismatch, classifier_sizes, examples, problems
from segjax.weights.source import Place, Source

log = logging.getLogger("segjax")


def load(
    path_or_dict: str | Path | Mapping[str, Any],
    variables: Variables,
    *,
    source: str | Source | None = None,
    skip: Sequence[str] = (),
    strict: bool = True,
    only: str = "",
) -> tuple[dict[str, Any], LoadReport]:
    """Returns variables with the leaves that the weights hold replaced, and a report.

    path_or_dict: a file or folder (see `read`), a dict of arrays under PyTorch names and layouts, or variables
        {"params": ..., "batch_stats": ...} of this package.
    variables: of the network; leaves may be jax.ShapeDtypeStruct. Their dtype is kept; the argument is not changed.
    source: family of files whose names differ, a key of SOURCES ("torchvision_resnet", "efficientnet_lite").
    skip: regular expressions (re.search) on PyTorch names: leaves that keep their values, tensors not needed.
    strict: every leaf must be filled or skipped, every tensor used or skipped, every shape equal, every value finite;
        what is not is collected and raised as one UserError. One thing is allowed: classifiers of another number of
        classes keep their values, and a line in the log says so. With strict=False the rest keeps its values, and only
        the report tells.
    only: regular expression of the leaves that matter (a trunk); nothing is filled, missed or expected elsewhere.
    """
    table = find_source(source)
    skip = _checked((skip,) if isinstance(skip, str) else tuple(skip))
    where = "The weights" if isinstance(path_or_dict, Mapping) else str(path_or_dict)
    tensors = _tensors(path_or_dict, table)
    targets = names.leaves(variables)
    tensors = {n: v for n, v in tensors.items() if not re.search(names.IGNORED, n)}
    stripped = names.strip_prefixes(tensors, list(targets))
    place = table.place(stripped, targets)
    tensors = _renamed(stripped, table, place, targets, where)
    scope = {name for name in targets if re.search(only, name)}

    flat = flax.traverse_util.flatten_dict(dict(variables))
    matched, missing, replaced, mismatches, damaged = [], [], [], [], []
    for name, path in targets.items():
        leaf = flat[path]
        if name not in scope:
            continue
        if name not in tensors:
            missing.append(name)
            continue
        if _skipped(name, skip):
            replaced.append(name)
            continue
        value = names.from_torch(path[-1], tensors[name])
        if value.shape != tuple(leaf.shape):
            replaced.append(name)
            here = names.to_torch(path[-1], np.empty(leaf.shape, np.bool_)).shape
            mismatches.append(Mismatch(name, path[-1], tuple(np.shape(tensors[name])), here))
            continue
        if not _is_finite(value):
            damaged.append(name)
        flat[path] = jnp.asarray(value, leaf.dtype)
        matched.append(name)
    unexpected = [] if only else [n for n in tensors if n not in targets and not _skipped(n, skip)]
    report = LoadReport(*(tuple(found) for found in (matched, missing, unexpected, replaced)))
    if strict:
        counts = classifier_sizes(mismatches)
        found = {
            "unfilled": [n for n in missing if re.search(place.fills, n) and not _skipped(n, skip)],
            "unexpected": unexpected,
            "shapes": [] if counts else mismatches,
            "damaged": damaged,
            "unused": [rule for rule in skip if not any(re.search(rule, n) for n in (*targets, *tensors))],
        }
        if only and not matched:
            found["unfilled"] = sorted(scope)
        if text := problems(found):
            raise UserError(f"{where} cannot fill the network: {text}; {_remedy(source, stripped, targets)}.")
        if counts:
            heads = list(dict.fromkeys(m.name.rsplit(".", 1)[0] for m in mismatches))
            log.info(
                "%s: %s has %d classes there and %d here, so it keeps its fresh values", where, examples(heads), *counts
            )
    return flax.traverse_util.unflatten_dict(flat), report


def find_source(source: str | Source | None) -> Source:
    """The table of that name, a Source as it is, and the identity for None."""
    if source is None:
        return Source()
    if isinstance(source, Source):
        return source
    if source not in SOURCES:
        raise UserError(f"source={source!r} is no known family of weight files.{did_you_mean(source, SOURCES)}")
    return SOURCES[source]


def _tensors(path_or_dict: str | Path | Mapping[str, Any], table: Source) -> dict[str, Any]:
    if not isinstance(path_or_dict, Mapping):
        return read(path_or_dict, also=table.also)
    if isinstance(path_or_dict.get("params"), Mapping):
        return names.to_state_dict(path_or_dict)
    tensors = {name: np.asarray(value) for name, value in path_or_dict.items()}
    if others := [name for name, value in tensors.items() if value.dtype.kind in "OSUcMm"]:
        raise UserError(f"{examples(others)} of the weights: {tensors[others[0]].dtype} is no type of real numbers.")
    return tensors


def _renamed(
    tensors: Mapping[str, Any], table: Source, place: Place, targets: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The tensors under the names of the network, without those the family says it has no use for."""
    renamed: dict[str, Any] = {}
    for name, value in tensors.items():
        for new in table.names(name, place):
            if table.ignore and new not in targets and re.search(table.ignore, name):
                continue
            if new in renamed:
                raise UserError(f"{where} holds two tensors for {new} ({name} is the second); remove one of them.")
            renamed[new] = value
    return renamed


def _checked(rules: tuple[str, ...]) -> tuple[str, ...]:
    for rule in rules:
        try:
            re.compile(rule)
        except re.error as error:
            raise UserError(f"skip={rule!r} is no regular expression: {error}.") from None
    return rules


def _is_finite(value: np.ndarray) -> bool:
    """Whether all values are finite. Types of ml_dtypes (bfloat16) are none of numpy's kinds."""
    return value.dtype.kind in "iub" or bool(np.isfinite(value).all())


def _skipped(name: str, skip: Sequence[str]) -> bool:
    return any(re.search(rule, name) for rule in skip)


def _remedy(source: Any, tensors: Mapping[str, Any], targets: Mapping[str, Any]) -> str:
    """What to do about weights that do not fit."""
    if source is None:
        fits = [repr(key) for key, table in SOURCES.items() if _would_fill(table, tensors, targets)]
        if fits:
            return f"the names are those of source={' or '.join(fits[:3])}: pass it"
    return "name what shall keep its values in skip=, or pass strict=False"


def _would_fill(table: Source, tensors: Mapping[str, Any], targets: Mapping[str, Any]) -> bool:
    """Whether that family explains the file: fills what the plain names leave open, or drops what they leave over."""
    place = table.place(tensors, targets)
    needed = {name for name in targets if re.search(place.fills, name)}
    renamed = set(_renamed(tensors, table, place, targets, "the file"))
    if not needed or not needed <= renamed:
        return False
    return not needed <= set(tensors) or (renamed <= set(targets) and not set(tensors) <= set(targets))
