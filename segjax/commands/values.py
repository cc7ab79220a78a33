"""Values of flags: each function returns the value of a text, or raises ArgumentTypeError with how to write it."""

from __future__ import annotations

import ast
from argparse import ArgumentTypeError
from typing import Any


def size(text: str) -> tuple[int, int]:
    """Returns the size (h, w) in pixels: 512x1024 -> (512, 1024)."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ArgumentTypeError(f"{text!r} is no size; write HEIGHTxWIDTH in pixels, for example 512x1024")
    return int(parts[0]), int(parts[1])


def positive_int(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def interval(text: str) -> int | str:
    """Returns an interval of keyframes: a whole number of at least 1, or "auto"."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no interval of keyframes; write a number of at least 1, or auto")
    return int(text)


def whole(text: str) -> int:
    """Returns a whole number of at least 0."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def numbers(text: str) -> list[float]:
    """Returns scales of an image: 0.5,1,2 -> [0.5, 1.0, 2.0]."""
    try:
        values = [float(part) for part in text.split(",") if part]
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number; write for example 0.5 1 2") from None
    if not values or not all(0 < value <= 16 for value in values):
        raise ArgumentTypeError(f"{text!r}: a scale is a number above 0 and at most 16")
    return values


def share(text: str) -> float:
    """Returns a number from 0 to 1."""
    return _within(text, 0 <= _float(text) <= 1, "share; write a number from 0 to 1")


def share_of_class(text: str) -> tuple[str, float]:
    """Returns (class, number from 0 to 1): car=0.9 -> ("car", 0.9); a number alone is for all: 0.9 -> ("", 0.9)."""
    name, _, number = text.rpartition("=")
    return name, _within(number, 0 <= _float(number) <= 1, "share; write a number from 0 to 1, or CLASS=NUMBER")


def not_negative(text: str) -> float:
    """Returns a number of at least 0."""
    return _within(text, 0 <= _float(text) < float("inf"), "number of at least 0")


def positive(text: str) -> float:
    """Returns a number above 0. Raises ArgumentTypeError for anything else."""
    return _within(text, 0 < _float(text) < float("inf"), "number above 0")


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # nan lies within no limits


def _within(text: str, good: bool, required: str) -> float:
    if not good:
        raise ArgumentTypeError(f"{text!r} is no {required}")
    return float(text)


def file_of(text: str) -> tuple[str, str]:
    """Returns (name, file) of a file with a name: train=lists/train.txt -> ("train", "lists/train.txt")."""
    name, _, file = text.partition("=")
    if not name or not file:
        raise ArgumentTypeError(f"{text!r} must be written name=file, for example train=train.txt")
    return name, file


def option(text: str) -> tuple[str, Any]:
    """Returns (name, value) of an option, the value as a Python literal: output_stride=8 -> ("output_stride", 8)."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ArgumentTypeError(f"{text!r} must be written name=value, for example output_stride=8")
    if value.lower() in ("true", "false", "none"):
        value = value.capitalize()
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
