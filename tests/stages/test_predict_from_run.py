"""From training to pictures: a run's folder is all that `segjax predict` needs."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from segjax.data import open_source
from tests.processes import SMALL_NETWORK, environment

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_run_predicts_images(tmp_path, street_dir):
    variables = environment(SEGJAX_DATA_DIR=street_dir)

    def start(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600
        )

    recipe = "--config=configs/vplr.py:propagate=none,debug"
    run = start("main.py", recipe, *SMALL_NETWORK, f"--workdir={tmp_path / 'run'}", "--stage=train")
    assert run.returncode == 0, run.stderr[-2000:]
    options = dict(height=64, width=128, train=2, validation=1, test=1, frames=6)
    image = open_source("synthetic_street", "test", data_dir=street_dir, builder_options=options)[0].image
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "street.png"), image[..., ::-1])
    cv2.imwrite(str(tmp_path / "in" / "odd.png"), image[:47, :91, ::-1])
    run = start(
        "-m", "segjax.cli", "predict", f"--checkpoint={tmp_path / 'run'}", f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'out'}", "--scales", "0.75", "1", "--flip", "--window=48x64",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    for name, size in (("street", (64, 128)), ("odd", (47, 91))):
        ids = cv2.imread(str(tmp_path / "out" / "ids" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert ids.shape == size and set(np.unique(ids)) <= set(range(19))
        assert cv2.imread(str(tmp_path / "out" / "overlay" / f"{name}.png")).shape == (*size, 3)
