"""A finished training with a longer duration goes on as if it had been longer from the start; others are refused."""

import json
import os
import shlex
import shutil
import signal

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from segjax import models, parallel
from segjax.data.epoch_plans import CutPlan, UniformPlan
from segjax.errors import UserError
from segjax.files import as_stored
from segjax.stages import run_recipe, train
from segjax.stages.config import choices
from segjax.stages.run_plan import make_run_plan, read_plan
from segjax.training.interrupt import Interrupted
from segjax.training.run import Evaluations
from segjax.weights.runs import load_for_inference
from tests.networks import documented_network

STREET = dict(height=64, width=128, train=3, validation=1, test=1, frames=6)


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    """These trainings compile for most of their time, so their network is the small one of the documentation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "tiny", documented_network())
        patch.setitem(choices._MODELS, "tiny", set(models.options("tiny")))
        yield


def recipe(street_dir, **changes):
    """Three steps per epoch; changes: of the section train, dots for sub-sections."""
    dataset = dict(name="synthetic_street", options=STREET, train="train", validation="", data_dir=str(street_dir))
    section = dict(
        kind="train",
        batch_size=2,
        crop=dict(size=(32, 48)),
        model=dict(name="tiny"),
        init=dict(weights="", checkpoint=""),
        loss=dict(main=dict(name="cross_entropy")),
        optimizer=dict(name="sgd", lr=0.01, schedule=dict(kind="constant")),
        mesh=dict(data=1),
        log_steps=1,
        total_steps=2,
    )
    evaluate = dict(kind="evaluate", checkpoint="train", split="test", mesh=dict(data=1))
    config = ConfigDict(dict(seed=0, stages=("train", "evaluate"), dataset=dataset, train=section, evaluate=evaluate))
    with config.unlocked():
        for key, value in changes.items():
            place = config if key in ("seed", "dataset.train") else config.train
            *parents, last = key.split(".")
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[last]
            else:
                place[last] = value
    return config


def leaves(workdir):
    _, variables, info = load_for_inference(workdir)
    return info["step"], [np.asarray(x) for x in jax.tree.leaves(variables)]


def assert_equal(workdir, other):
    (step, ours), (wanted, theirs) = leaves(workdir), leaves(other)
    assert step == wanted and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def rates(workdir):
    lines = (workdir / "train" / "metrics.jsonl").read_text().splitlines()
    return {entry["step"]: entry["lr"] for entry in map(json.loads, lines) if "lr" in entry}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, street_dir):
    """Five steps: the end is within the second epoch."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    run_recipe(recipe(street_dir, total_steps=5), workdir=workdir, only="train")
    return workdir


@pytest.fixture(scope="module")
def finished(tmp_path_factory, street_dir):
    """Two steps. Tests that change the folder take `copied`."""
    workdir = tmp_path_factory.mktemp("finished")
    run_recipe(recipe(street_dir), workdir=workdir, only="train")
    return workdir


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_a_longer_training_equals_one_that_was_longer_from_the_start(copied, street_dir, undisturbed, caplog):
    first = run_recipe(recipe(street_dir), workdir=copied)
    assert first["train"]["steps"] == 2 and first["evaluate"]["checkpoint_step"] == 2
    caplog.clear()
    with caplog.at_level("INFO", logger="segjax"):
        # how often it saves and logs may change along with the duration
        longer = recipe(street_dir, total_steps=5, log_steps=2, checkpoint_steps=2)
        reports = run_recipe(longer, workdir=copied)
    assert "stage train was finished and goes on: " in caplog.text and "train.total_steps: 2 -> 5" in caplog.text
    assert "extending the training from step 2 to 5: the learning rate goes on at 0.01" in caplog.text
    assert "stage evaluate runs again, because stage train has been run since" in caplog.text
    wanted = json.loads((undisturbed / "train" / "report.json").read_text())
    for key in ("steps", "epochs", "last_learning_rate", "parameters", "epoch_shares"):
        assert reports["train"][key] == wanted[key], key
    assert reports["evaluate"]["checkpoint_step"] == 5
    assert_equal(copied, undisturbed)
    assert json.loads((copied / "train" / "report-2-steps.json").read_text()) == as_stored(first["train"])
    caplog.clear()
    with caplog.at_level("INFO", logger="segjax"):
        assert run_recipe(longer, workdir=copied)["train"]["finished"] == reports["train"]["finished"]
    assert "stage train is done" in caplog.text and "stage evaluate is done" in caplog.text
    with pytest.raises(UserError, match=r"train.total_steps: 5 -> 4\), and a finished training cannot become shorter"):
        run_recipe(recipe(street_dir, total_steps=4, log_steps=2, checkpoint_steps=2), workdir=copied)


POLY = {"optimizer.schedule.kind": "poly"}


def test_the_learning_rate_jumps_to_the_longer_schedule(tmp_path, street_dir, caplog):
    """poly with power 0.9; epochs of three steps."""
    options = {**POLY, "total_steps": None, "total_epochs": 1}
    assert run_recipe(recipe(street_dir, **options), workdir=tmp_path, only="train")["train"]["epochs"] == 1
    with caplog.at_level("INFO", logger="segjax"):
        longer = run_recipe(recipe(street_dir, **{**options, "total_epochs": 2}), workdir=tmp_path, only="train")
    assert (longer["train"]["epochs"], longer["train"]["steps"]) == (2, 6)
    poly = lambda step, total: 0.01 * (1 - step / total) ** 0.9  # noqa: E731
    wanted = {i + 1: poly(i, 3) for i in range(3)} | {i + 1: poly(i, 6) for i in range(3, 6)}
    assert rates(tmp_path) == pytest.approx(wanted, rel=1e-5)
    assert longer["train"]["last_learning_rate"] == pytest.approx(poly(5, 6))
    assert f"at {poly(3, 6):.3g}, its value at this step of the longer schedule (it was {poly(2, 3):.3g}" in caplog.text


def test_a_duration_in_another_unit_is_compared_once_the_data_is_open(tmp_path, street_dir, undisturbed):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    report = (tmp_path / "train" / "report.json").read_text()
    for epochs in (1, 0.5):
        shorter = recipe(street_dir, total_steps=None, total_epochs=epochs)
        with pytest.raises(UserError, match="finished after 5 steps and these settings end after 3: .* shorter"):
            run_recipe(shorter, workdir=tmp_path, only="train")
    assert (tmp_path / "train" / "report.json").read_text() == report
    same = run_recipe(recipe(street_dir, total_steps=None, total_examples=10), workdir=tmp_path, only="train")
    assert same["train"]["steps"] == 5
    assert_equal(tmp_path, undisturbed)


def test_an_extension_that_is_interrupted_resumes(copied, street_dir, undisturbed, monkeypatch, caplog):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "run_training", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe(street_dir, total_steps=5), workdir=copied, only="train")
    assert not (copied / "train" / "report.json").exists()
    run_recipe(recipe(street_dir, total_steps=5), workdir=copied, only="train")
    assert_equal(copied, undisturbed)
    assert "differs from the original run: train.total_steps: 2 -> 5" in caplog.text


ONLY = "only a longer duration lets a finished training go on"
REFUSED = {
    "crop": ({"crop.size": (64, 96), "total_steps": 5}, "train.crop.size: [32, 48] -> [64, 96]", ONLY),
    "loss": (
        {"loss.main.name": "ohem_cross_entropy", "total_steps": 5},
        "train.loss.main.name: 'cross_entropy' -> 'ohem_cross_entropy'", ONLY,
    ),
    "learning rate": ({"optimizer.lr": 0.5}, "train.optimizer.lr: 0.01 -> 0.5", ONLY),
    "seed": ({"seed": 1, "total_steps": 5}, "seed: 0 -> 1", ONLY),
    "data": ({"dataset.train": "train::2", "total_steps": 5}, "dataset.train: 'train' -> 'train::2'", ONLY),
    "a new key": ({"ema_decay": 0.9, "total_steps": 5}, "train.ema_decay: nothing -> 0.9", ONLY),
    "no duration": ({"log_steps": 2}, "train.log_steps: 1 -> 2", ONLY),
    "shorter": ({"total_steps": 1}, "train.total_steps: 2 -> 1", "a finished training cannot become shorter"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_other_changes_are_refused_with_their_differences(finished, street_dir, case):
    changes, difference, reason = REFUSED[case]
    with pytest.raises(UserError) as error:
        run_recipe(recipe(street_dir, **changes), workdir=finished, only="train")
    text = str(error.value)
    assert f"{finished / 'train'} was finished with other settings than these (" in text and "\n" not in text
    assert difference in text and f"), and {reason}; give another --workdir (with " in text
    assert f"--config.train.init.checkpoint={finished / 'train'} to start from its weights" in text
    assert text.endswith(f"or delete {finished / 'train'} to run stage 'train' again.")
    assert (finished / "train" / "report.json").exists()


def test_the_flags_of_a_refusal_start_from_the_weights(finished, tmp_path, street_dir, caplog):
    shutil.copytree(finished, tmp_path / "a b")
    other = recipe(street_dir, **{"optimizer.lr": 0.5, "init.weights": "imagenet", "init.key": "ema"})
    with pytest.raises(UserError) as error:
        run_recipe(other, workdir=tmp_path / "a b", only="train")
    flags = shlex.split(str(error.value).partition("(with ")[2].partition(" to start")[0])
    folder = tmp_path / "a b" / "train"
    start = "--config.train.init."
    assert flags == [f"{start}weights=", f"{start}key=", f"{start}checkpoint={folder}"]
    for flag in flags:
        key, value = flag.removeprefix(start).split("=", 1)
        other.train.init[key] = value
    with caplog.at_level("INFO", logger="segjax"):
        run_recipe(other, workdir=tmp_path / "other", only="train")
    assert f"checkpoint {folder}, step 2: " in caplog.text
    whole = recipe(street_dir, **{"optimizer.lr": 0.5, "init": None})
    with pytest.raises(UserError, match=r"\(with --config\.'train\.init=\{.*checkpoint.*\}' to start"):
        run_recipe(whole, workdir=tmp_path / "a b", only="train")


def change_report(workdir, change):
    path = workdir / "train" / "report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def test_a_crop_schedule_over_the_whole_training_is_not_extended(copied, street_dir):
    change_report(copied, lambda report: report["settings"]["stage"]["crop"].update(schedule="fine2coarse"))
    longer = recipe(street_dir, **{"crop.schedule": "fine2coarse", "total_steps": 5})
    reason = "the crops of crop.schedule='fine2coarse' are spread over the whole training, so that its start differs"
    with pytest.raises(UserError, match=rf"train.total_steps: 2 -> 5\), and {reason}; give another --workdir \(with"):
        run_recipe(longer, workdir=copied, only="train")


def test_a_report_with_a_hash_only_says_so(copied, street_dir):
    change_report(copied, lambda report: report.pop("settings"))
    assert run_recipe(recipe(street_dir), workdir=copied, only="train")["train"]["steps"] == 2
    with pytest.raises(UserError, match=r"\(unknown, because its report has only a hash of them\); give another"):
        run_recipe(recipe(street_dir, total_steps=5), workdir=copied, only="train")


def test_without_checkpoints_nothing_goes_on(copied, tmp_path, street_dir):
    (copied / "train" / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"2 -> 5\), and its checkpoints are gone; give another --workdir, or delete"):
        run_recipe(recipe(street_dir, total_steps=5), workdir=copied, only="train")


LENGTHS = st.one_of(
    st.integers(1, 40).map(lambda n: {"total_steps": n}),
    st.integers(1, 9).map(lambda n: {"total_epochs": n}),
    st.integers(1, 99).map(lambda n: {"total_examples": n}),
)


@given(
    records=st.integers(4, 12), cut=st.integers(0, 6), batch=st.integers(1, 4), warmup=st.integers(0, 1),
    lengths=st.tuples(LENGTHS, LENGTHS),
)  # fmt: skip
def test_a_shorter_plan_is_the_beginning_of_a_longer_one(records, cut, batch, warmup, lengths):
    """Of every step: the epoch, the samples and the shape of the batch. It is what makes an extension sound."""
    epochs = CutPlan(UniformPlan(records + 3), UniformPlan(records), cut)
    mesh = parallel.make_mesh({"data": 1})
    crop = dict(size=(32, 48), schedule="constant", warmup_epochs=warmup, warmup="smallest", max_batch=batch)
    short, long = sorted(
        (
            make_run_plan(read_plan(dict(batch_size=batch, crop=crop, **length), "train"), epochs, mesh)
            for length in lengths
        ),
        key=lambda plan: plan.total_steps,
    )
    for step in range(short.total_steps):
        assert short.timeline.at(step) == long.timeline.at(step)


def test_an_evaluation_that_a_signal_ended_is_made_up_for(street_dir, tmp_path, monkeypatch):
    changes = {"dataset.train": "train", "total_steps": 4, "eval_steps": 2}
    config = recipe(street_dir, **changes)
    config.dataset.validation = "validation"
    whole = run_recipe(config, workdir=tmp_path / "whole", only="train")["train"]
    score, calls = Evaluations.__call__, []

    def killed(self, state, step, *after_batch):
        calls.append(step)
        if len(calls) in (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return score(self, state, step, *after_batch)

    monkeypatch.setattr(Evaluations, "__call__", killed)
    for step in (2, 4):
        with pytest.raises(Interrupted, match=f"SIGTERM after step {step}"):
            run_recipe(config, workdir=tmp_path / "parts", only="train")
    found = run_recipe(config, workdir=tmp_path / "parts", only="train")["train"]
    assert calls == [2, 2, 4, 4]
    assert found["history"] == whole["history"] and len(whole["history"]) == 2
