"""Checks of images and options: they raise a named error before a shape error occurs deep inside a network."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from segjax.errors import UserError
from segjax.typing import Array

FLOATS = ("float32", "bfloat16", "float16", "float64")
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "bool": (lambda v: isinstance(v, bool), "True or False"),
    "bool | str": (lambda v: isinstance(v, (bool, str)), "True, False, or names such as 'layer+stem'"),
    "int": (lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool), "a whole number"),
    "float": (lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool), "a number"),
    "tuple[int, ...]": (lambda v: _all(v, numbers.Integral), "whole numbers, such as (6, 12)"),
    "tuple[float, ...]": (lambda v: _all(v, numbers.Real), "numbers, such as (0.5, 0.75)"),
}


def check_options(build: Callable[..., Any], name: str, options: Mapping[str, Any]) -> None:
    """Raises UserError for an option of the wrong type or out of range.

    build: constructor of the network; the annotations of its parameters are the required types.
    name: name of the network, for the message.
    options: values by parameter name.

    Ranges follow from the kind of parameter: counts and sizes are 1 or more, dropout rates below 1, momenta at most 1.
    Options that depend on the network (depth, trunk, ...) are checked by the network itself.
    """
    for key, value in options.items():
        parameter = inspect.signature(build).parameters[key]
        kind = str(parameter.annotation).removesuffix(" | None")
        if value is None and kind != parameter.annotation:
            continue
        fits, wanted = KINDS.get(kind, (lambda v: True, ""))
        if fits(value):
            fits, wanted = _range(key, kind, parameter.default)
        if not fits(value):
            raise UserError(f"{key}={value!r} of {name} must be {wanted}.")


def _range(key: str, kind: str, default: Any) -> tuple[Callable[[Any], bool], str]:
    if key == "dtype":
        return lambda v: _dtype_name(v) in FLOATS, f"one of {', '.join(FLOATS)}"
    if key.endswith("dropout") and kind == "float":
        return lambda v: 0 <= v < 1, "0 or more and below 1"
    if key.endswith("momentum"):
        return lambda v: 0 < v <= 1, "above 0 and at most 1: the weight of the new batch"
    if key.endswith("eps"):
        return lambda v: v > 0, "above 0"
    if kind == "int" and default != 0:
        return lambda v: v >= 1, "1 or more"
    if kind == "int":
        return lambda v: v >= 0, "0 or more"
    return lambda v: True, ""


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


def _dtype_name(value: Any) -> str:
    try:
        return jnp.dtype(value).name
    except TypeError:
        return ""


def check_images(images: Array, *, smallest: int = 1) -> None:
    """Raises UserError unless images are floats (b, h, w, 3) with h, w >= smallest.

    Every network calls it first, also while tracing: it reads shape and type only. `segjax.inference` checks for values
    that are not finite.
    """
    if images.ndim != 4:
        raise UserError(f"images of shape {images.shape} are no batch; networks take (batch, height, width, 3).")
    if images.shape[-1] != 3:
        raise UserError(
            f"images of shape {images.shape} have {images.shape[-1]} channels; networks take RGB, (batch, height, "
            "width, 3)."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images are {images.dtype}; normalise them to float32 first (segjax.augment.normalise).")
    if min(images.shape[:3]) < 1 or min(images.shape[1:3]) < smallest:
        raise UserError(
            f"images of {images.shape[1]}x{images.shape[2]} pixels (height x width), {images.shape[0]} of them, are "
            f"too small; this network takes {smallest}x{smallest} or more."
        )
