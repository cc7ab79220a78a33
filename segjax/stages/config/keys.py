"""Reads a recipe's settings strictly: an unknown key is an error that names the nearest right one."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from segjax.errors import UserError, did_you_mean
from segjax.files import plain


def check_keys(config: Mapping[str, Any], allowed: Iterable[str], *, where: str, required: Iterable[str] = ()) -> None:
    """Raises UserError for a key that nobody reads, or one that is missing."""
    allowed = set(allowed)
    for key in config:
        if key not in allowed:
            raise UserError(f"config key {where}.{key} is not known.{did_you_mean(key, allowed)}")
    for key in required:
        if key not in config:
            raise UserError(f"config key {where}.{key} is missing.")


def check_numbers(
    config: Mapping[str, Any],
    keys: Iterable[str],
    *,
    where: str,
    low: float,
    below: float = math.inf,
    whole: bool = True,
) -> None:
    """Raises UserError unless each of the keys that the config has is a number (whole or not) in low <= x < below."""
    kind = numbers.Integral if whole else numbers.Real
    for key in keys:
        value = config.get(key)
        if value is None or (isinstance(value, kind) and not isinstance(value, bool) and low <= value < below):
            continue
        limits = f"{low:g} or more" + ("" if below == math.inf else f" and below {below:g}")
        raise UserError(f"config key {where}.{key}={value!r} must be a {'whole ' if whole else ''}number, {limits}.")


def options_of(section: Mapping[str, Any], function: Callable, *, where: str) -> dict[str, Any]:
    """Returns a section as keyword arguments of `function` (or of a dataclass), with tuples for lists.

    A recipe gives keyword-only parameters and no others; positional ones come from code. Raises UserError for a key
    that is not one of them, and when one without default is missing.
    """
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    required = [p.name for p in parameters if p.default is p.empty]
    check_keys(section, [p.name for p in parameters], where=where, required=required)
    return {key: _tuples(value) for key, value in plain(section).items()}


def recipe_options(function: Callable) -> set[str]:
    """Returns the names of the parameters that a recipe gives, see `options_of`."""
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}


def part_of(section: Mapping[str, Any], function: Callable) -> dict[str, Any]:
    """Returns the keyword arguments of `function` that a section contains; its other keys are read elsewhere."""
    names = recipe_options(function)
    return {key: _tuples(plain(value)) for key, value in section.items() if key in names}


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(v) for key, v in value.items()}
    return value
