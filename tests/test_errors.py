"""Ctrl-C is never lost, wherever it arrives."""

import subprocess
import sys

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
