"""Training with split parameters, checkpoints and evaluation in two processes, as on two hosts."""

import json
import sys

import pytest

from tests.processes import SMALL_NETWORK, run_together


@pytest.mark.parametrize("resume", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_train_and_evaluate(resume, tmp_path, street_dir, monkeypatch):
    monkeypatch.setenv("SEGJAX_DATA_DIR", str(street_dir))
    workdir = tmp_path / "run"

    def run(*more):
        return run_together(
            lambda address, index: [
                sys.executable, "main.py", "--config=configs/vplr.py:propagate=none,debug", f"--workdir={workdir}",
                "--config.train.mesh.data=-1", "--config.train.param_rules=(('.*', 'data'),)",
                f"--coordinator={address}", "--num_processes=2", f"--process_id={index}", *SMALL_NETWORK, *more,
            ],
            devices=1,
        )  # fmt: skip

    checkpoints = workdir / "train" / "checkpoints"
    if resume:
        run("--stage=train")
        (checkpoints / "3").rename(tmp_path / "newest")
        for path in (workdir / "report.json", workdir / "train" / "report.json"):
            path.unlink()
    run()
    assert (checkpoints / "3").is_dir()
    report = json.loads((workdir / "report.json").read_text())
    assert report["train"]["steps"] == 3 and 0 <= report["evaluate"]["miou"] <= 1
