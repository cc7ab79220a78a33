"""One run at a time in a stage's folder, and the lock that the system frees after kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.errors import UserError
from segjax.stages.lock import only_run

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from pathlib import Path
from segjax.stages.lock import only_run
with only_run(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_it_is_free_after_an_end_and_after_kill_9(tmp_path):
    with pytest.raises(ValueError, match="x"), only_run(tmp_path):
        raise ValueError("x")
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as run:
        try:
            assert run.stdout.readline() == "locked\n"
            with pytest.raises(UserError, match=f"process {run.pid} on"), only_run(tmp_path):
                pass
            run.send_signal(signal.SIGKILL)
            run.wait(60)
        finally:
            run.kill()
    with only_run(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()
