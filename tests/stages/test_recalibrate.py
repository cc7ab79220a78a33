"""The stage "recalibrate": only statistics change, those that evaluation uses; kill -9; what is refused."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import parallel
from segjax.data import open_source
from segjax.errors import UserError
from segjax.stages import recalibrate, run_recipe
from segjax.training.recalibration import Population
from segjax.weights.runs import load_for_inference, read_meta
from tests import tiny_network
from tests.processes import environment, run_together
from tests.stages.test_stage import TRAIN
from tests.tiny_network import STEP, STREET, oracle, variables

ROOT = Path(__file__).resolve().parents[2]


def config(data_dir, stages=("recalibrate",), **section):
    options = dict(kind="recalibrate", checkpoint="train", batch_size=4, save_batches=1, mesh=dict(data=1))
    dataset = dict(name="synthetic_street", options=STREET, train="train", data_dir=str(data_dir))
    return ConfigDict(
        dict(
            seed=0,
            stages=stages,
            dataset=dataset,
            train=TRAIN,
            recalibrate={**options, **section},
            again=dict(kind="recalibrate", checkpoint="recalibrate"),
        )
    )


def run(data_dir, workdir, **section):
    """Recalibrates the network in WORKDIR/train; returns (report, its variables, its info)."""
    report = run_recipe(config(data_dir, **section), workdir=workdir, only="recalibrate")["recalibrate"]
    _, found, info = load_for_inference(workdir / "recalibrate")
    return report, jax.device_get(found), info


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    tiny_network.register(monkeypatch)


@pytest.fixture(scope="module")
def images(street_dir):
    source = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=STREET)
    return np.stack([source[i].image for i in range(len(source))])


def batches(count, size):
    full = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
    missing = size - len(full[-1])
    last = np.concatenate([full[-1], np.arange(missing)]), np.arange(size) < size - missing
    return [*((rows, np.ones(size, bool)) for rows in full[:-1]), last]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_averaged_network_gets_the_statistics_of_all_images(tmp_path, street_dir, images):
    """The checkpoint has the moving average as its parameters, and is replaced when the stage runs again."""
    averaged = variables(seed=5)
    tiny_network.save(tmp_path / "train/checkpoints", averaged=averaged)
    report, found, info = run(street_dir, tmp_path)
    expected = oracle(averaged, images, batches(18, 4))
    for name, one in expected.items():
        for leaf in ("mean", "var"):
            np.testing.assert_allclose(found["batch_stats"][name][leaf], one[leaf], rtol=2e-5, atol=1e-6)
    assert same(found["params"], averaged["params"])
    before = read_meta(tmp_path / "train")
    assert {key: info[key] for key in before} == before, "the network is used as before: dtype, classes, normalisation"
    assert info["step"] == STEP and info["recalibrated"]["batch_size"] == 4
    assert report["images"] == 18 and report["batches"] == 5 and report["norms"] == 3 and report["norms_kept"] == []
    assert report["mean_shift"] > 0.1 and report["checkpoint_step"] == STEP
    left = sorted(path.name for path in (tmp_path / "recalibrate").iterdir())
    assert left == [".lock", "checkpoints", "report.json"]

    _, other, _ = run(street_dir, tmp_path, limit=3, batch_size=3)  # of the same step, with other statistics
    expected = oracle(averaged, images[[0, 6, 12]], batches(3, 3))
    np.testing.assert_allclose(other["batch_stats"]["norm2"]["var"], expected["norm2"]["var"], rtol=2e-5)


def test_killed_and_resumed(tmp_path, street_dir, images, caplog):
    """The program dies after its second save; the next one measures the other batches and gets the same bits."""
    for name in ("undisturbed", "killed"):
        tiny_network.save(tmp_path / name / "train/checkpoints")
    _, expected, _ = run(street_dir, tmp_path / "undisturbed")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    # with the threads of this process, see conftest.py: on another number of them sums have other last bits
    done = subprocess.run(
        [sys.executable, "-m", "tests.stages.test_recalibrate", street_dir, tmp_path / "killed"],
        cwd=ROOT, env=environment(PYTHONPATH=path, NPROC=64), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert not (tmp_path / "killed/recalibrate/report.json").exists()
    with caplog.at_level(logging.INFO, "segjax"):
        report, found, _ = run(street_dir, tmp_path / "killed")
    assert "resuming: 2 of 5 batches are done" in caplog.text
    assert same(found, expected) and report["images"] == 18


@pytest.mark.slow
def test_two_processes_with_two_devices_each(tmp_path, street_dir, images):
    for name in ("one", "two"):
        tiny_network.save(tmp_path / name / "train/checkpoints")
    _, expected, _ = run(street_dir, tmp_path / "one")
    program = [sys.executable, "-m", "tests.stages.test_recalibrate", street_dir, tmp_path / "two"]
    run_together(lambda address, index: [*program, address, index])
    _, found, _ = load_for_inference(tmp_path / "two/recalibrate")
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert json.loads((tmp_path / "two/recalibrate/report.json").read_text())["images"] == 18


def test_extra_data_of_the_training(tmp_path, street_dir, images):
    # groups of the training's batches, not of these
    tiny_network.save(tmp_path / "train/checkpoints", options={"bn_groups": 2})
    report, found, _ = run(street_dir, tmp_path, extra=dict(more=dict(split="train[:5]")), batch_size=23)
    expected = oracle(variables(), np.concatenate([images, images[:5]]), batches(23, 23))
    assert report["images"] == 23
    np.testing.assert_allclose(found["batch_stats"]["norm1"]["mean"], expected["norm1"]["mean"], rtol=1e-5)


def test_sums_of_other_variables_are_not_resumed(tmp_path, street_dir, caplog):
    tiny_network.save(tmp_path / "train/checkpoints")
    (tmp_path / "recalibrate").mkdir()
    Population().save(tmp_path / "recalibrate/moments.npz", identity="other", batches=4)
    with caplog.at_level(logging.INFO, "segjax"):
        assert run(street_dir, tmp_path)[0]["images"] == 18
    assert "is of other settings or variables" in caplog.text


def test_crops_of_the_training(tmp_path, street_dir, images, monkeypatch):
    """Crops of the images' size are the images."""
    tiny_network.save(tmp_path / "train/checkpoints")
    whole = dict(crop=dict(size=(32, 48)), augment=dict(flip=False))
    _, found, _ = run(street_dir, tmp_path, **whole)
    expected = oracle(variables(), images, batches(18, 4))
    np.testing.assert_allclose(found["batch_stats"]["norm1"]["var"], expected["norm1"]["var"], rtol=1e-4)
    crops = dict(crop=dict(size=(16, 16), scale_range=(0.5, 2.0)), batch_size=18)
    report, other, _ = run(street_dir, tmp_path, **crops)
    assert report["images"] == 18 and not same(other, found)


WRONG = {
    "recalibrate.passs is not known": dict(passs=1),
    "recalibrate.batch_size=0 must be": dict(batch_size=0),
    "recalibrate.crop.size is missing": dict(crop=dict(scale_range=(1.0, 2.0))),
    "recalibrate.augment changes crops, but whole images are measured": dict(augment=dict(flip=False)),
    "recalibrate.augment.flop is not known. Did you mean 'flip'": dict(
        crop=dict(size=(8, 8)), augment=dict(flop=False)
    ),
    "recalibrate.split='validation': dataset.validation names no split": dict(split="validation"),
    "recalibrate.checkpoint='again' is no path, and no stage before": dict(checkpoint="again"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_refused_before_the_training(tmp_path, street_dir, sentence, monkeypatch):
    monkeypatch.setattr("segjax.stages.train.run_training", None)
    settings = config(street_dir, ("train", "recalibrate", "again"), **WRONG[sentence])
    settings.dataset.validation = ""
    with pytest.raises(UserError) as error:
        run_recipe(settings, workdir=tmp_path)
    assert sentence in str(error.value) and str(error.value).count(". ") <= 1


def test_no_images_no_norms_and_no_network_are_found_before_the_training(tmp_path, street_dir, monkeypatch):
    class Empty:
        sizes, names = np.zeros((0, 2), int), []
        __len__ = lambda self: 0  # noqa: E731

    settings = config(street_dir, ("train", "recalibrate"))
    with monkeypatch.context() as patch:
        patch.setattr("segjax.stages.dataset.Dataset.open", lambda self, split: Empty())
        with pytest.raises(UserError, match="recalibrate.split='train' .* no labelled image to recalibrate on"):
            run_recipe(settings, workdir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(recalibrate, "image_network", lambda spec_of, checkpoint, key: (None, {"params": {}}, None))
        with pytest.raises(UserError, match="recalibrate.checkpoint='train' is a network without batch norm"):
            run_recipe(settings, workdir=tmp_path)
    settings.stages = ("scores", "recalibrate")
    settings.scores = dict(kind="evaluate", checkpoint="train", split="train")
    settings.recalibrate.checkpoint = "scores"
    (tmp_path / "train").mkdir()
    with pytest.raises(
        UserError, match="recalibrate.checkpoint='scores' is a stage without the checkpoint of an image"
    ):
        run_recipe(settings, workdir=tmp_path)


def test_a_network_that_gives_no_numbers(tmp_path, street_dir):
    broken = jax.tree.map(lambda x: x * np.nan, variables())
    tiny_network.save(tmp_path / "train/checkpoints", averaged=broken)
    with pytest.raises(UserError, match="gives values that are not finite"):
        run(street_dir, tmp_path)


if __name__ == "__main__":  # python -m tests.stages.test_recalibrate DATA_DIR WORKDIR: dies after the second save
    tiny_network.register()
    if len(sys.argv) > 3:  # .. ADDRESS INDEX: one of two processes, to the end
        parallel.setup(coordinator=sys.argv[3], num_processes=2, process_id=int(sys.argv[4]))
        run(Path(sys.argv[1]), Path(sys.argv[2]), mesh=dict(data=-1))
        sys.exit()
    saved, save = [], Population.save

    def save_and_die(self, path, **note):
        save(self, path, **note)
        saved.append(note)
        if len(saved) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    Population.save = save_and_die
    run(Path(sys.argv[1]), Path(sys.argv[2]))
