"""Errors that a user can cause: one sentence with the file or key, the value and the remedy."""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any


class UserError(Exception):
    """An error that a user can cause; shown as one line without a traceback."""

    exit_code = 2


class NotYet(UserError):
    """An error that may pass: the same command can succeed later. Exit code 75, the system's EX_TEMPFAIL."""

    exit_code = 75


def brief(text: str, most: int = 80) -> str:
    """Returns text of a foreign file or error for a sentence: one line of about `most` characters, its beginning."""
    text = text if len(text) <= most else f"{text[:most]}..."
    return text if text.isprintable() else repr(text)


def quoted(value: object, most: int = 80) -> str:
    """Returns a value of a foreign file for a sentence: text in quotes, numbers, and the outside of containers.

    It has about `most` characters. The whole of a container may be endless.
    """
    return brief(_outside(value, most, depth=2), most + 5)


def _outside(value: object, most: int, depth: int) -> str:
    if isinstance(value, (str, bytes)):
        return repr(value[:most]) + "..." * (len(value) > most)
    if isinstance(value, int) and value.bit_length() > 4 * most:  # the digits of a large number cost minutes
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if depth and isinstance(value, (list, tuple, dict)):
        shown = [_outside(one, most, depth - 1) for one in itertools.islice(value, 8)]
        if isinstance(value, dict):
            shown = [f"{key}: {_outside(one, most, depth - 1)}" for key, one in zip(shown, value.values())]
        shown += ["..."] * (len(value) > len(shown))
        left, right = {list: "[]", tuple: "()"}.get(type(value), "{}")
        return f"{left}{', '.join(shown)}{right}"
    return f"a {type(value).__name__}"


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns the end of a sentence about an unknown name: " Did you mean 'x'?" or a list of all options.

    If there is no option at all, the text states so.
    """
    options = sorted(map(str, options))
    if not options:
        return " There is nothing to choose from; leave it out."
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    near = near or [option for option in options if len(str(name)) > 2 and str(name) in option][:1]
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Choose one of: {', '.join(options)}."


def choose(table: Mapping[str, Any], name: str, *, where: str) -> Any:
    """Returns table[name].

    where: config key that holds the name.
    Raises UserError with the nearest name if the table has no such name.
    """
    if name not in table:
        raise UserError(f"config key {where}={name!r} is not known.{did_you_mean(name, table)}")
    return table[name]


SMALLER = "take a smaller batch or smaller crops or windows, set remat='full', or raise accumulate_steps"
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR}


def explain(error: BaseException) -> tuple[str, int]:
    """Returns (sentence, exit code) of an error that a user, the disk, a small device or ctrl-C can cause.

    Raises any other error again.
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command resumes with what is not done yet", 130
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return f"{error.filename or 'a file'} cannot be read or written: {error.strerror}; what is done is kept.", 2
    if isinstance(error, UserError):
        return str(error), error.exit_code
    if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error):  # jax's error of any backend
        first = " ".join(str(error).partition("RESOURCE_EXHAUSTED")[2].split())[:160].strip(": ")
        return f"the device has too little memory ({first}); {SMALLER}.", 2
    raise error


def keep_interrupts() -> None:
    """Makes sure that ctrl-C is never lost, for the rest of the process.

    Python drops an exception in a callback of the garbage collection, as jax has one, or in a finaliser. A ctrl-C that
    arrives there is sent again.
    """
    default = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            later = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))  # here it would be dropped, too
            later.daemon = True
            later.start()
        else:
            default(unraisable)

    sys.unraisablehook = hook
