"""Training is killed, interrupted and damaged for real; what comes out is what an undisturbed run gives.

SEGJAX_KILLS=10 pytest tests/stages/test_faults.py   kills more often than the suite does.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segjax.weights.runs import load_for_inference
from tests.processes import SMALL_NETWORK, environment

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 12
KILLS = int(os.environ.get("SEGJAX_KILLS", 3))


def command(workdir: Path, *extra: str) -> list[str]:
    overrides = {"train.total_steps": STEPS, "train.checkpoint_steps": 2, "train.ema_decay": 0.9, "train.eval_steps": 5}
    return [
        sys.executable,
        "main.py",
        "--config=configs/vplr.py:propagate=none,debug",
        f"--workdir={workdir}",
        "--stage=train",
        *SMALL_NETWORK,
        *(f"--config.{key}={value}" for key, value in overrides.items()),
        *extra,
    ]


def run(workdir: Path, street_dir: Path, *extra: str, devices: int = 1) -> subprocess.CompletedProcess:
    done = subprocess.run(
        command(workdir, *extra), cwd=ROOT, env=environment(devices=devices, SEGJAX_DATA_DIR=street_dir),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def start(workdir: Path, street_dir: Path, *extra: str, devices: int = 1) -> subprocess.Popen:
    return subprocess.Popen(
        command(workdir, *extra), cwd=ROOT, env=environment(devices=devices, SEGJAX_DATA_DIR=street_dir),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def logged_steps(workdir: Path) -> list[int]:
    path = workdir / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    steps = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the line being written
            continue
        if "loss" in entry:
            steps.append(entry["step"])
    return steps


def variables(workdir: Path):
    import jax

    _, tree, info = load_for_inference(workdir)
    assert info["step"] == STEPS
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, street_dir):
    workdir = tmp_path_factory.mktemp("undisturbed")
    run(workdir, street_dir)
    return variables(workdir)


def test_kill_9_at_random_moments(tmp_path, street_dir, undisturbed):
    dice = random.Random(0)
    kills = lives = 0
    while kills < KILLS:
        workdir, before = tmp_path / str(lives), kills
        kills += killed_run(workdir, street_dir, dice, KILLS - kills)
        assert kills > before, "the run must have been killed once"
        assert all(np.array_equal(a, b) for a, b in zip(variables(workdir), undisturbed, strict=True))
        steps = logged_steps(workdir)
        assert steps == sorted(set(steps)), "the log must tell every step once"
        lives += 1


def saving(workdir: Path) -> bool:
    return any(path.name.endswith("-tmp") for path in (workdir / "train" / "checkpoints").glob("*"))


def killed_run(workdir: Path, street_dir: Path, dice: random.Random, most: int) -> int:
    """Starts a run again and again until it ends; returns how often it was killed, every second time while it saves."""
    kills = 0
    while kills < most:
        process = start(workdir, street_dir)
        reached = max(logged_steps(workdir), default=0)
        deadline = time.time() + 300
        # once a step beyond the last life is done, die within half a second: in a step, a save or an evaluation
        while process.poll() is None and max(logged_steps(workdir), default=0) <= reached and time.time() < deadline:
            time.sleep(0.02)
        if kills % 2:
            while process.poll() is None and not saving(workdir) and time.time() < deadline:
                pass
        else:
            time.sleep(dice.uniform(0, 0.5))
        if process.poll() is not None:
            assert process.returncode == 0, process.stderr.read()[-3000:]
            return kills
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    run(workdir, street_dir)
    return kills


def test_sigterm_saves_and_exits(tmp_path, street_dir, undisturbed):
    process = start(tmp_path, street_dir, "--config.train.checkpoint_steps=1000")
    while process.poll() is None and not logged_steps(tmp_path):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, errors[-3000:]
    assert "a checkpoint was saved" in errors and "Traceback" not in errors
    run(tmp_path, street_dir, "--config.train.checkpoint_steps=1000")
    assert all(np.array_equal(a, b) for a, b in zip(variables(tmp_path), undisturbed, strict=True))


def test_8_devices_killed_then_2_devices(tmp_path, street_dir):
    """8 images on 8 devices, then on 2; the same numbers as on 1 within float tolerance."""
    options = (
        "--config.train.batch_size=8",
        "--config.train.mesh.data=-1",
        "--config.train.checkpoint_steps=4",
        "--config.train.ema_decay=0.0",
        "--config.dataset.options.train=4",
        "--config.dataset.validation=",  # evaluations would be compiled for 8 and for 2 devices, too
        "--config.train.optimizer.lr=1e-4",
    )
    run(tmp_path / "whole", street_dir, *options)
    process = start(tmp_path / "killed", street_dir, *options, devices=8)
    while process.poll() is None and max(logged_steps(tmp_path / "killed"), default=0) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(tmp_path / "killed", street_dir, *options, devices=2)
    for a, b in zip(variables(tmp_path / "killed"), variables(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
