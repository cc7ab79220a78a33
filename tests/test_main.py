"""What main.py says when something is wrong: one sentence, exit code 2, no traceback, nothing lost."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError, explain
from tests.processes import SMALL_NETWORK, environment

ROOT = Path(__file__).resolve().parent.parent


def main(workdir: Path, street_dir: Path, *flags: str, devices: int = 1) -> subprocess.CompletedProcess:
    command = [sys.executable, "main.py", f"--workdir={workdir}", *flags]
    variables = environment(devices=devices, SEGJAX_DATA_DIR=street_dir)
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)


def error_of(run: subprocess.CompletedProcess) -> str:
    assert run.returncode == 2, run.stdout[-2000:] + run.stderr[-2000:]
    assert "Traceback" not in run.stderr + run.stdout
    lines = [line for line in run.stderr.splitlines() if line.startswith("main.py: error:")]
    assert len(lines) == 1, run.stderr
    return lines[0]


DEBUG = "--config=configs/vplr.py:propagate=none,debug"

WRONG = {
    "config key": (["--config.train.optmizer.lr=1"], 'Did you mean "optimizer"'),
    "recipe option": (["--config=configs/vplr.py:nett=r50"], "did you mean 'net'"),
    "preset": (["--config=configs/vplr.py:camvd"], "did you mean 'camvid'"),
    "recipe": (["--config=configs/vpl.py"], "there is no recipe configs/vpl.py; did you mean configs/vplr.py?"),
    "new section": ([DEBUG, "--config.train.extra.split=x"], "a section the recipe lacks is given whole"),
    "later stage": (["--config.evaluate.protocol=sngle"], "Did you mean 'single'"),
    "input of a stage": (["--config.evaluate.checkpoint=trian"], "Did you mean 'train'"),
    "type": (["--config.train.batch_size=many"], "train.batch_size=many"),
    "flag": (["--wrkdir=x"], "workdir"),
    "stage": ([DEBUG, "--stage=trian"], "Did you mean 'train'"),
    "network": ([DEBUG, "--config.train.model.name=fastscn"], "Did you mean 'fastscnn'"),
    "loss": ([DEBUG, "--config.train.loss.main.name=relaxed"], "Did you mean 'relaxed_cross_entropy'"),
    "data set": ([DEBUG, "--config.dataset.name=camvit"], "Did you mean 'camvid'"),
    "split": ([DEBUG, "--config.dataset.train=trian"], "Did you mean 'train'"),
    "devices": ([DEBUG, "--config.train.mesh.data=4"], "needs 4 devices and jax has 1"),
    "platform": ([DEBUG, "--platform=tpu"], "tpu"),
    "cpu devices": ([DEBUG, "--cpu_devices=0"], "--cpu_devices=0 must be 1 or more"),
    "batch": ([DEBUG, "--config.train.batch_size=1000"], "batch_size=1000"),
    "checkpoint": ([DEBUG, "--stage=evaluate"], "checkpoint"),
    "pretrained": ([DEBUG, "--config.train.init.weights=nowhere.pth"], "nowhere.pth"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_sentence(case, tmp_path, street_dir):
    flags, words = WRONG[case]
    assert words.lower() in error_of(main(tmp_path, street_dir, *flags)).lower()


def test_help_lists_the_flags():
    run = subprocess.run([sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    flags = ("config", "workdir", "stage", "platform", "cpu_devices", "coordinator", "num_processes", "process_id")
    assert all(f"  --{flag}: " in run.stdout for flag in flags) and "Finished stages are skipped" in run.stdout


def test_the_command_line_goes_before_the_recipe(tmp_path, street_dir):
    """Options of the sampler, the optimizer and the length that the recipe names give way, and a new one is taken."""
    sampler = ["--config.train.sampler.kind=uniform", "--config.train.optimizer.name=adamw"]
    flags = [*sampler, "--config.train.total_epochs=1", "--config.train.model.options.aux=True"]
    run = main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK, *flags, "--stage=train")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "train.sampler.tile=64 of the recipe gives way to --config.train.sampler.kind=uniform" in run.stdout
    assert "train.optimizer.options.momentum=0.9 of the recipe gives way" in run.stdout
    assert "train.total_steps=3 of the recipe gives way to --config.train.total_epochs" in run.stdout


def test_ctrl_c_before_training_is_one_sentence(tmp_path, street_dir):
    """While the data is read and the step is compiled; in training it saves first (test_faults.py)."""
    variables = {**os.environ, "SEGJAX_DATA_DIR": str(street_dir), "JAX_PLATFORMS": "cpu"}
    # seconds of compiling, and no early end where the test gets little of the CPU
    large = ["--config.train.crop.size=(512,1024)", "--config.train.total_steps=1000"]
    command = [sys.executable, "-u", "main.py", f"--workdir={tmp_path}", DEBUG, *large]
    with subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore ctrl-C
    ) as run:  # fmt: skip
        try:
            assert any("stage train:" in line for line in run.stdout)
            run.send_signal(signal.SIGINT)
            _, errors = run.communicate(timeout=300)
        finally:
            run.kill()
    assert run.returncode == 130 and "Traceback" not in errors
    assert "main.py: error: interrupted" in errors


def test_the_disk_and_the_user_are_told_and_bugs_are_not():
    assert explain(UserError("no")) == ("no", 2)
    sentence, code = explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/report.json"))
    assert code == 2 and sentence.startswith("/runs/report.json cannot be read or written: No space left")
    assert explain(KeyboardInterrupt())[1] == 130
    with pytest.raises(RuntimeError) as error:
        jnp.zeros(2**46, jnp.int8).block_until_ready()
    sentence, code = explain(error.value)
    assert code == 2 and sentence.startswith("the device has too little memory (Out of memory")
    for bug in (ValueError("x"), RuntimeError("INTERNAL: x"), FileNotFoundError(errno.ENOENT, "missing", "x")):
        with pytest.raises(type(bug)):
            explain(bug)


def test_the_cpu_can_be_cut_into_devices(tmp_path, street_dir):
    flags = [DEBUG, "--cpu_devices=4", "--config.train.mesh.data=4", "--config.train.batch_size=6"]
    assert "batch_size=6 must be a multiple of 4" in error_of(main(tmp_path, street_dir, *flags))


def test_batch_that_does_not_divide_over_devices(tmp_path, street_dir):
    flags = [DEBUG, "--config.train.mesh.data=-1", "--config.train.batch_size=6"]
    assert "batch_size=6 must be a multiple of 4" in error_of(main(tmp_path, street_dir, *flags, devices=4))


@pytest.fixture
def folders(tmp_path) -> Path:
    """Eight small images with masks of 3 classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for i in range(4):
            mask = rng.integers(0, 3, (8, 12)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            image = (mask[..., None] * 80 + rng.integers(0, 40, (64, 96, 3))).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "data" / "images" / split / f"{i}.png"), image)
            cv2.imwrite(str(tmp_path / "data" / "masks" / split / f"{i}.png"), mask)
    classes = [{"id": i, "name": f"class {i}", "train_id": i, "color": [i * 80, 0, 0]} for i in range(3)]
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"coding": "id", "labels": classes}))
    return tmp_path / "data"


def own_data(folders: Path) -> list[str]:
    recipe = (
        f"--config=configs/vplr.py:own,images={folders}/images,masks={folders}/masks,label_map={folders}/classes.json"
    )
    return [recipe + ",debug"]


def test_own_folder_trains(folders, tmp_path, street_dir):
    run = main(tmp_path / "w", street_dir, *own_data(folders), *SMALL_NETWORK, "--config.evaluate.boundary=True")
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads((tmp_path / "w" / "report.json").read_text())["evaluate"]
    assert report["images"] == 4 and set(report["boundary_f"]["classes"]) == {"class 0", "class 1", "class 2"}


def truncated_image(folders):
    path = folders / "images" / "train" / "2.png"
    path.write_bytes(path.read_bytes()[:900])
    return "images/train/2.png"


def mask_of_another_size(folders):
    path = folders / "masks" / "train" / "1.png"
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:32])
    return "masks/train/1.png"


def unknown_id(folders):
    path = folders / "masks" / "val" / "3.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    mask[0, 0] = 77
    cv2.imwrite(str(path), mask)
    return "77"


def missing_mask(folders):
    (folders / "masks" / "train" / "0.png").unlink()
    return "0.png"


def empty_split(folders):
    for path in [*(folders / "images" / "val").iterdir(), *(folders / "masks" / "val").iterdir()]:
        path.unlink()
    return "val"


@pytest.mark.parametrize(
    "damage", [truncated_image, mask_of_another_size, unknown_id, missing_mask, empty_split], ids=lambda f: f.__name__
)
def test_damaged_data_is_named(damage, folders, tmp_path, street_dir):
    words = damage(folders)
    assert words in error_of(main(tmp_path / "w", street_dir, *own_data(folders)))


def test_finished_stages_are_skipped_and_other_settings_refused(tmp_path, street_dir):
    first = main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK)
    assert first.returncode == 0, first.stderr[-2000:]
    report = (tmp_path / "train" / "report.json").read_text()
    again = main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK)
    assert again.returncode == 0 and "stage train is done" in again.stdout
    assert (tmp_path / "train" / "report.json").read_text() == report
    other = main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK, "--config.train.optimizer.lr=0.5")
    sentence = error_of(other)
    assert (
        "was finished with other settings than these (train.optimizer.lr: 0.045 -> 0.5), and only a longer" in sentence
    )


EXPLODES = [
    "--config.train.optimizer.lr=1e30",
    "--config.train.checkpoint_steps=1",
    "--config.train.total_steps=12",
    "--config.dataset.validation=",  # evaluations would only take time
]


def test_nan_stops_with_step_images_and_checkpoint(tmp_path, street_dir):
    sentence = error_of(main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK, *EXPLODES))
    assert "its images were" in sentence and "param_norm=" in sentence
    assert "nothing was saved yet" in sentence  # the very first update destroys the parameters: it must not be saved


def test_nan_after_some_good_steps_names_the_checkpoint_before(tmp_path, street_dir):
    start = ["--config.train.checkpoint_steps=1", "--config.train.total_steps=2", "--config.dataset.validation="]
    assert main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK, "--stage=train", *start).returncode == 0
    (tmp_path / "train" / "report.json").unlink()  # as if it had been interrupted
    result = main(tmp_path, street_dir, DEBUG, *SMALL_NETWORK, "--stage=train", *EXPLODES)
    assert "the last good checkpoint is" in error_of(result)
    assert "train.optimizer.lr: 0.045 -> 1e+30" in result.stdout  # other settings than it was started with are told
