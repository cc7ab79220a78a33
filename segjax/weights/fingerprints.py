"""Fingerprints of trees of arrays, by which a checkpoint proves that it is read as it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import parallel

VARIABLES = ("params", "batch_stats", "ema")
_CHUNK = 2**20  # words, for bounded memory


def fingerprint(tree: Any) -> np.uint32:
    """Returns 32 bits that depend on every bit of every leaf and on its place.

    A change of one word always changes them, and one of many words but for one case in 2^32. They are the same on any
    number of devices. Every process must call it if leaves are split between processes.
    """
    # on the host: a program with one reduction for each of a network's hundreds of leaves compiles for seconds
    total = np.zeros((), np.uint32)
    for place, leaf in enumerate(jax.tree.leaves(tree)):
        words = _bits(parallel.fetch(leaf))
        for start in range(0, words.size, _CHUNK):
            part = words[start : start + _CHUNK]
            place_of = np.arange(start, start + part.size, dtype=np.uint32) + _mixed(np.array([place], np.uint32))
            total += _mixed(part ^ _mixed(place_of)).sum(dtype=np.uint32)
    return total[()]


def first_fingerprint(tree: Any) -> np.uint32:
    """Returns the fingerprint in checkpoints of earlier versions; a change of many signs can leave it as it is."""
    total = np.zeros((), np.uint32)
    for place, leaf in enumerate(jax.tree.leaves(tree)):
        array = parallel.fetch(leaf)
        flat = np.ascontiguousarray(array.astype(np.float32) if array.dtype == jnp.bfloat16 else array).reshape(-1)
        words = flat.view(np.uint32) if flat.dtype.itemsize in (4, 8) else flat.astype(np.uint32)
        for start in range(0, words.size, _CHUNK):
            part = words[start : start + _CHUNK]
            factors = np.arange(start, start + part.size, dtype=np.uint32) * np.uint32(2) + np.uint32(2 * place + 1)
            total += np.dot(part, factors)
    return total[()]


# name of the fingerprints in a checkpoint's state -> their function; the newest first
KINDS: dict[str, Callable[[Any], np.uint32]] = {"mixed_fingerprint": fingerprint, "fingerprint": first_fingerprint}
NEWEST = next(iter(KINDS))


def kind_of(state: Mapping[str, Any]) -> str:
    """Returns which of KINDS the state of a checkpoint contains, "" if none; state: at least its first keys."""
    return next((kind for kind in KINDS if kind in state), "")


def check_fingerprints(written: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    """Raises ValueError if a fingerprint of what was read differs from that of what was written."""
    if any(int(written[name]) != int(read[name]) for name in read):
        raise ValueError("its contents are not what was written")


def of_variables(tree: Mapping[str, Any], kind: str) -> dict[str, np.uint32]:
    """Returns the fingerprint of the variables of a checkpoint's state; kind: of KINDS."""
    return {"variables": KINDS[kind]({name: tree.get(name, {}) for name in VARIABLES})}


def _bits(array: np.ndarray) -> np.ndarray:
    """Returns the bits of an array as uint32: two words of a value with 64 bits, one of a smaller value."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.itemsize >= 4:
        return flat.view(np.uint32)
    return flat.view({1: np.uint8, 2: np.uint16}[flat.dtype.itemsize]).astype(np.uint32)


def _mixed(words: np.ndarray) -> np.ndarray:
    """Returns each word with its bits mixed, one to one: the end of MurmurHash3 (Appleby, public domain)."""
    words = words ^ (words >> np.uint32(16))
    words *= np.uint32(0x85EBCA6B)
    words ^= words >> np.uint32(13)
    words *= np.uint32(0xC2B2AE35)
    words ^= words >> np.uint32(16)
    return words
