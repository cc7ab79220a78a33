"""Ctrl-C is never lost, wherever it arrives; values of foreign files stay short and in one line."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.errors import brief, quoted

LOST = """
import gc, signal, time
from segjax.errors import keep_interrupts

signal.signal(signal.SIGINT, signal.default_int_handler)  # programs started by a background job ignore it

class Finaliser:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

KEEP
if "WHERE" == "finaliser":
    Finaliser()
else:
    def once(phase, info):  # a further collection must not interrupt the sending
        gc.callbacks.clear()
        signal.raise_signal(signal.SIGINT)
    gc.callbacks.append(once)
    gc.collect()
time.sleep(PAUSE)
print("went on")
"""


def run(where, keep):
    code = LOST.replace("WHERE", where).replace("KEEP", "keep_interrupts()" if keep else "")
    code = code.replace("PAUSE", "5" if keep else "0.2")  # a kept one ends the pause
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_ctrl_c_in_a_callback_is_sent_again():
    for where in ("finaliser", "collection"):
        assert "went on" in run(where, keep=False).stdout  # what Python does by itself
        kept = run(where, keep=True)
        assert "went on" not in kept.stdout and "KeyboardInterrupt" in kept.stderr and kept.returncode != 0


def doubled(times):
    found = ()
    for _ in range(times):
        found = (found, found)
    return found


@pytest.mark.parametrize(
    "value, shown",
    [
        ("a", "'a'"), (3, "3"), (None, "None"), (0.5, "0.5"), (True, "True"), ([1, ("a", [2])], "[1, ('a', a list)]"),
        ({"a": {"b": 1}}, "{'a': {'b': 1}}"), (b"a", "b'a'"), (10**300, "a number of 997 bits"),
        (object(), "a object"), (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"), ("a" * 90, "'" + "a" * 80 + "'..."),
        (doubled(60), "((a tuple, a tuple), (a tuple, a tuple))"), ("a\nb", "'a\\nb'"),
    ],
)  # fmt: skip
def test_values_of_a_foreign_file(value, shown):
    assert quoted(value) == shown


def test_the_digits_of_a_large_number_are_not_computed():
    assert quoted([1 << 10**7]) == "[a number of 10000001 bits]"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(value=anything)
def test_any_value_is_one_short_line(value):
    assert quoted(value).isprintable() and len(quoted(value)) < 400
    if isinstance(value, str):
        assert brief(value).isprintable() and len(brief(value)) < 900
        assert brief(value) == value or not value.isprintable() or len(value) > 80
