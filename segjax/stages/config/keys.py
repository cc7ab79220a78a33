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


def options_of(
    config: Mapping[str, Any], function: Callable, *, where: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """The config as keyword arguments of `function`; keys it does not take, or the caller gives, are errors."""
    parameters = inspect.signature(function).parameters
    allowed = {
        name
        for name, p in parameters.items()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and name not in set(given)
    }
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        allowed |= set(config)
    check_keys(config, allowed, where=where)
    return {key: _tuples(value) for key, value in plain(config).items()}


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(v) for key, v in value.items()}
    return value
