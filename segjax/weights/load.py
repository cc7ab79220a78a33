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
from segjax.weights.choice import choose_fit
from segjax.weights.families import SOURCES
from segjax.weights.fit import Fit, Target, renamed
from segjax.weights.read import dicts_of, read_tree
from segjax.weights.report import LoadReport, examples, problems
from segjax.weights.source import Source
from segjax.weights.state_dicts import StateDict

log = logging.getLogger("segjax")

# how a caller in Python gives what an error offers
ARGUMENTS = {"key": "key=", "source": "source=", "skip": "skip=", "strict": "strict="}


def load(
    path_or_dict: str | Path | Mapping[str, Any],
    variables: Variables,
    *,
    source: str | Source | None = None,
    skip: Sequence[str] = (),
    strict: bool = True,
    only: str = "",
    key: str = "",
    remedies: Mapping[str, str] = ARGUMENTS,
) -> tuple[dict[str, Any], LoadReport]:
    """Returns a copy of the variables, with the leaves that the weights contain replaced, and a report.

    path_or_dict: file or folder (see `read`), dict of arrays under PyTorch names and layouts, nested or not, or
        variables {"params": ..., "batch_stats": ...} of this package.
    variables: variables of the network; leaves may be jax.ShapeDtypeStruct. Their dtypes are kept.
    source: family of the weights if their tensor names differ from the network's, a key of SOURCES
        ("torchvision_resnet", "efficientnet_lite") or a Source.
    skip: regular expressions (re.search) on PyTorch names of leaves that keep their values and of tensors not needed.
    strict: whether every leaf must be filled or skipped, every tensor used or skipped, every shape equal and every
        value finite. The only exception is a classifier of another number of classes: it keeps its values, which is
        logged. If False, all that does not fit keeps its values and is listed in the report only.
    only: regular expression of the leaves to fill, such as a trunk; other leaves are neither filled nor missed, and
        no tensor is unexpected.
    key: which dictionary of tensors, if the weights have several: keys and prefixes joined by dots ("model.teacher");
        "." is the outermost one. "" takes the only one that fits.
    remedies: how the caller's user gives `key`, `source`, `skip` and `strict`, such as {"key": "train.init.key="};
        errors offer these only.

    Raises UserError if the weights cannot be read, `source` or `key` is unknown, several dictionaries fit, a rule is no
    regular expression, two tensors belong to one leaf, or with strict=True if something does not fit (one sentence
    lists all of it).
    """
    table = find_source(source)
    skip = _checked((skip,) if isinstance(skip, str) else tuple(skip), remedies)
    where = "The weights" if isinstance(path_or_dict, Mapping) else str(path_or_dict)
    flat = flax.traverse_util.flatten_dict(dict(variables))
    leaves = names.leaves(variables)
    target = Target(leaves, {name: tuple(flat[path].shape) for name, path in leaves.items()}, skip, only)
    fit = choose_fit(_state_dicts(path_or_dict), table, target, key=key, where=where, option=remedies.get("key", ""))
    if fit.error:
        raise UserError(fit.error)
    _check_types({name: fit.tensors[name] for name in fit.report.matched}, where)
    damaged = []
    for name in fit.report.matched:
        path = leaves[name]
        value = names.from_torch(path[-1], fit.tensors[name])
        if not _is_finite(value):
            damaged.append(name)
        flat[path] = jnp.asarray(value, flat[path].dtype)
    if strict:
        if text := problems({**fit.problems, "damaged": damaged}):
            raise UserError(f"{where} cannot fill the network: {text}; {_remedy(source, fit, leaves, remedies)}.")
        if fit.classes:
            heads = list(dict.fromkeys(m.name.rsplit(".", 1)[0] for m in fit.mismatches))
            counts = fit.classes
            log.info(
                "%s: %s has %d classes there and %d here, so it keeps its fresh values", where, examples(heads), *counts
            )
    return flax.traverse_util.unflatten_dict(flat), fit.report


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


def _state_dicts(path_or_dict: str | Path | Mapping[str, Any]) -> list[StateDict]:
    if not isinstance(path_or_dict, Mapping):
        return dicts_of(read_tree(path_or_dict), path_or_dict)
    if _is_variables(path_or_dict):
        return [StateDict("", names.to_state_dict(path_or_dict))]
    if any(isinstance(value, Mapping) for value in path_or_dict.values()):
        return dicts_of(_with_arrays(path_or_dict), "The dict")
    tensors = {name: np.asarray(value) for name, value in path_or_dict.items()}
    _check_types(tensors, "the weights")
    return [StateDict("", tensors)]


def _check_types(tensors: Mapping[str, np.ndarray], where: str) -> None:
    if others := [name for name, value in tensors.items() if value.dtype.kind in "OSUcMm"]:
        raise UserError(f"{examples(others)} of {where}: {tensors[others[0]].dtype} is no type of real numbers.")


def _is_variables(tree: Mapping[str, Any]) -> bool:
    """Whether these are variables of this package, and not a checkpoint with a state dict called "params"."""
    params = tree.get("params")
    return isinstance(params, Mapping) and (any(isinstance(v, Mapping) for v in params.values()) or not params)


def _with_arrays(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts with numpy arrays in place of the arrays of other packages."""

    def convert(value: Any) -> Any:
        return np.asarray(value) if hasattr(value, "__array__") else value

    return {name: _with_arrays(value) if isinstance(value, Mapping) else convert(value) for name, value in tree.items()}


def _checked(rules: tuple[str, ...], remedies: Mapping[str, str]) -> tuple[str, ...]:
    for rule in rules:
        try:
            re.compile(rule)
        except re.error as error:
            raise UserError(f"{remedies.get('skip', 'skip=')}{rule!r} is no regular expression: {error}.") from None
    return rules


def _is_finite(value: np.ndarray) -> bool:
    """Whether all values are finite. Types of ml_dtypes (bfloat16) have none of numpy's float kinds."""
    return value.dtype.kind in "iub" or bool(np.isfinite(value).all())


def _remedy(source: Any, fit: Fit, targets: Mapping[str, Any], remedies: Mapping[str, str]) -> str:
    """Returns what to do about weights that do not fit, of what the user can give."""
    if source is None:
        fits = [repr(key) for key, table in SOURCES.items() if _would_fill(table, fit.found, targets)]
        if fits and "source" in remedies:
            return f"the names are those of {remedies['source']}{' or '.join(fits[:3])}: set it"
        if fits:
            return f"the names are those of {' or '.join(fits[:3])}, another network"
    ways = [f"name what may keep its values in {remedies['skip']}"] if "skip" in remedies else []
    ways += [f"pass {remedies['strict']}False"] if "strict" in remedies else []
    return ", or ".join(ways) or "give the weights of this network"


def _would_fill(table: Source, tensors: Mapping[str, Any], targets: Mapping[str, Any]) -> bool:
    """Whether a family explains the file: it fills leaves that the plain names miss, or ignores the surplus tensors."""
    place = table.place(tensors, targets)
    needed = {name for name in targets if re.search(place.fills, name)}
    try:
        found = set(renamed(tensors, table, place, targets, "the file"))
    except UserError:
        return False
    if not needed or not needed <= found:
        return False
    return not needed <= set(tensors) or (found <= set(targets) and not set(tensors) <= set(targets))
