"""A process of several is killed in the middle of a step, as a host that dies.

SEGJAX_KILLS=5 pytest tests/stages/test_dead_host.py   kills more often than the suite does.
"""

import os
import signal
import sys
import time

import jax
import numpy as np

from segjax.weights.runs import load_for_inference
from tests.processes import SMALL_NETWORK, run_together, start_together
from tests.stages.test_faults import logged_steps

KILLS = int(os.environ.get("SEGJAX_KILLS", 1))
WITHIN = 60  # seconds
STEPS = 60 * KILLS


def command(workdir):
    return lambda address, index: [
        sys.executable, "main.py", "--config=configs/vplr.py:propagate=none,debug", f"--workdir={workdir}",
        "--config.train.mesh.data=-1", f"--config.train.total_steps={STEPS}", "--config.train.checkpoint_steps=20",
        "--config.train.eval_steps=1000", "--stage=train",
        f"--coordinator={address}", "--num_processes=2", f"--process_id={index}", *SMALL_NETWORK,
    ]  # fmt: skip


def weights(workdir):
    return [np.asarray(x) for x in jax.tree.leaves(load_for_inference(workdir)[1])]


def test_the_others_end_and_the_same_command_resumes(tmp_path, street_dir, monkeypatch):
    monkeypatch.setenv("SEGJAX_DATA_DIR", str(street_dir))
    undisturbed = tmp_path / "undisturbed"
    if KILLS > 1:  # a quarter of a minute
        run_together(command(undisturbed), devices=1)
    killed(tmp_path / "killed")
    run_together(command(tmp_path / "killed"), devices=1)
    assert load_for_inference(tmp_path / "killed")[2]["step"] == STEPS
    if KILLS > 1:
        both = zip(weights(tmp_path / "killed"), weights(undisturbed), strict=True)
        assert all(np.array_equal(a, b) for a, b in both)


def killed(workdir):
    """Starts a run and kills one of its processes, KILLS times."""
    for kill in range(KILLS):
        victim = 1 - kill % 2
        processes = start_together(command(workdir), devices=1)
        reached = max(logged_steps(workdir), default=0)
        try:
            deadline = time.time() + 300
            while max(logged_steps(workdir), default=0) < reached + 25 and time.time() < deadline:
                time.sleep(0.02)
            processes[victim].send_signal(signal.SIGKILL)
            began = time.time()
            _, errors = processes[1 - victim].communicate(timeout=WITHIN)
            print(f"kill {kill + 1}: process {victim}; the other ended after {time.time() - began:.1f} s")
        finally:
            for process in processes:
                process.kill()
        assert processes[1 - victim].returncode == 1
        assert f"main.py: error: process {victim} of 2 (pid {processes[victim].pid} on " in errors
        assert "Traceback" not in errors and "stack trace" not in errors
