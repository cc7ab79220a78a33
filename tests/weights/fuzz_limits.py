"""Reads fuzzed weight files, each in a process with limits: python -m tests.weights.fuzz_limits FIRST COUNT.

Prints {"outcomes": {kind: {outcome: files}}, "bad": {seed: what happened}, "most_mb", "most_seconds"}; a process has 2
GB beyond what the imports take, and 20 s.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.weights.fuzz_files import KINDS, make, outcome

MEMORY, SECONDS = 2 * 2**30, 20


def limited(path):
    """Returns (outcome, peak bytes beyond the start's) of reading a file in a process with limits."""
    receive, send = os.pipe()
    child = os.fork()  # the imports start no threads
    if child == 0:
        os.close(receive)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            found = outcome(path)
        except BaseException as error:  # a traceback, of any kind
            found = f"{type(error).__name__}: {error}"[:300]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(send, json.dumps([found, peak * 1024]).encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else (f"killed, status {status}", MEMORY)


def main(first, count):
    outcomes = {kind: Counter() for kind in KINDS}
    bad, most_bytes, most_seconds = {}, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            path = make(seed, Path(folder))
            start = time.monotonic()
            found, peak = limited(path)
            most_seconds = max(most_seconds, time.monotonic() - start)
            most_bytes = max(most_bytes, peak)
            if found not in ("result", "refused"):
                bad[seed], found = found, "bad"
            outcomes[KINDS[seed % len(KINDS)]][found] += 1
            path.unlink()
    print(json.dumps(dict(outcomes=outcomes, bad=bad, most_mb=most_bytes >> 20, most_seconds=round(most_seconds, 2))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
