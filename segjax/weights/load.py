"""Fills the variables of a network from a weight file and reports exactly what was filled."""

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
    """Returns a copy of the variables, with the leaves that the weights contain replaced, and a report.

    path_or_dict: file or folder (see `read`), dict of arrays under PyTorch names and layouts, or variables
        {"params": ..., "batch_stats": ...} of this package.
    variables: variables of the network; leaves may be jax.ShapeDtypeStruct. Their dtypes are kept.
    source: family of the weights if their tensor names differ from the network's, a key of SOURCES
        ("torchvision_resnet", "efficientnet_lite") or a Source.
    skip: regular expressions (re.search) on PyTorch names of leaves that keep their values and of tensors not needed.
    strict: whether every leaf must be filled or skipped, every tensor used or skipped, every shape equal and every
        value finite. The only exception is a classifier of another number of classes: it keeps its values, which is
        logged. If False, all that does not fit keeps its values and is listed in the report only.
    only: regular expression of the leaves to fill, such as a trunk; other leaves are neither filled nor missed, and
        no tensor is unexpected.

    Raises UserError if the weights cannot be read, `source` is unknown, a rule is no regular expression, two tensors
    belong to one leaf, or with strict=True if something does not fit (one sentence lists all of it).
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
    """Returns the family of that name; a Source is returned as it is, None gives the identity.

    Raises UserError for an unknown name.
    """
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
    """Returns the tensors under the names of the network, without those that the family ignores."""
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
    """Whether all values are finite. Types of ml_dtypes (bfloat16) have none of numpy's float kinds."""
    return value.dtype.kind in "iub" or bool(np.isfinite(value).all())


def _skipped(name: str, skip: Sequence[str]) -> bool:
    return any(re.search(rule, name) for rule in skip)


def _remedy(source: Any, tensors: Mapping[str, Any], targets: Mapping[str, Any]) -> str:
    """Returns what to do about weights that do not fit."""
    if source is None:
        fits = [repr(key) for key, table in SOURCES.items() if _would_fill(table, tensors, targets)]
        if fits:
            return f"the names are those of source={' or '.join(fits[:3])}: pass it"
    return "name what shall keep its values in skip=, or pass strict=False"


def _would_fill(table: Source, tensors: Mapping[str, Any], targets: Mapping[str, Any]) -> bool:
    """Whether a family explains the file: it fills leaves that the plain names miss, or ignores the surplus tensors."""
    place = table.place(tensors, targets)
    needed = {name for name in targets if re.search(place.fills, name)}
    renamed = set(_renamed(tensors, table, place, targets, "the file"))
    if not needed or not needed <= renamed:
        return False
    return not needed <= set(tensors) or (renamed <= set(targets) and not set(tensors) <= set(targets))
