"""Errors that a user can cause: one sentence that names the file or key, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Shown as one line without a traceback; the program ends with exit code 2."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest option, or a list of all options, to append to a sentence.

    Without any option, says that there is none.
    """
    options = sorted(map(str, options))
    if not options:
        return " There is nothing to choose from; leave it out."
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    near = near or [option for option in options if len(str(name)) > 2 and str(name) in option][:1]
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Choose one of: {', '.join(options)}."
