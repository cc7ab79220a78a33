"""What a weight file or a checkpoint says about its network, checked as a recipe is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from segjax import models
from segjax.errors import UserError, brief, quoted

REMEDY = "`segjax export_weights` writes files that do"
MAX_TEXT = 2**24  # characters; what is stored beside the tensors has thousands
MAX_OPTION = 2**16  # of a number among the options of a network: thousands of channels, tens of layers


def parse_info(text: str, where: str) -> dict[str, Any]:
    """Returns the entry of a .safetensors file. Raises UserError unless it is a JSON object; where: the file."""
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"it has {len(text)} characters")
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{where} has an entry 'segjax' that is no JSON ({brief(str(error), 160)}); {REMEDY}."
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{where} has an entry 'segjax' that is {quoted(found)}, not a JSON object; {REMEDY}.")
    return found


def check_info(info: Any, where: str) -> dict[str, Any]:
    """Returns what describes a trained network: "model", "step", and maybe "normalisation", "label_map" and "dataset".

    where: the file, for errors.

    Raises UserError if one of these is missing or of another type, or the network cannot be built.
    """
    if not isinstance(info, Mapping):
        raise UserError(f"{where} describes its network by {quoted(info)}, not by a JSON object; {REMEDY}.")
    _check_spec(info.get("model"), "model", where)
    for key, kind, what in _KINDS:
        if not isinstance(info.get(key), kind):
            raise UserError(f"{where} has {key}={quoted(info.get(key))}, which is not {what}; {REMEDY}.")
    return dict(info)


_KINDS = (
    ("step", int, "a whole number"),
    ("normalisation", (str, type(None)), "a name"),
    ("label_map", (dict, type(None)), "a label map"),
    ("dataset", (dict, type(None)), "a description of a dataset"),
)


def _check_spec(spec: Any, key: str, where: str) -> None:
    """Raises UserError unless a spec has all parts, of the right types, and its network can be built."""
    _check_parts(spec, key, where)
    try:
        models.from_spec(spec)
    except UserError as error:
        raise UserError(f"{where} has a wrong '{key}': {error}") from None
    except Exception as error:  # noqa: BLE001 (values of right types that no constructor expects)
        why = brief(f"{type(error).__name__}: {error}", 160)
        raise UserError(f"{where} has a '{key}' that cannot be built ({why}); {REMEDY}.") from None


def _check_parts(spec: Any, key: str, where: str) -> None:
    if not isinstance(spec, Mapping):
        raise UserError(f"{where} has {key}={quoted(spec)}, which does not name a network; {REMEDY}.")
    parts = {"name": str, "num_classes": int, "options": Mapping}
    if wrong := [part for part, kind in parts.items() if not isinstance(spec.get(part), kind)]:
        raise UserError(f"{where} has {key}.{wrong[0]}={quoted(spec.get(wrong[0]))}, which no network has; {REMEDY}.")
    options = {f"options.{name}": value for name, value in spec["options"].items()}
    for name, value in {"num_classes": spec["num_classes"], **options}.items():
        if not _is_plain(value):
            raise UserError(f"{where} has {key}.{brief(name)}={quoted(value)}, which no network has; {REMEDY}.")
    keyframe = spec.get("keyframe")
    if not keyframe:
        return
    if not isinstance(keyframe, Mapping) or type(keyframe.get("scale")) not in (int, float):
        raise UserError(f"{where} has {key}.keyframe={quoted(keyframe)}, which lacks a spec and a scale; {REMEDY}.")
    _check_parts(keyframe.get("spec"), f"{key}.keyframe.spec", where)


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether a value is text or a number of an option, or a list of these."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and len(value) <= 64 and all(_is_plain(one, depth - 1) for one in value)
    if isinstance(value, (int, float)):
        return abs(value) <= MAX_OPTION
    return value is None or (isinstance(value, str) and len(value) <= 256)
