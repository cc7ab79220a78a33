"""Which stages of a recipe run, run again, or are refused, and what the reports say."""

import dataclasses
import json
import os
import socket
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from segjax.errors import UserError
from segjax.stages import recipe, run_recipe
from segjax.stages.lock import only_run
from segjax.stages.stage import no_check


@pytest.fixture
def ran(monkeypatch):
    """Names of the stages that ran, of a recipe whose stages do nothing; every run is a second later."""
    ran = []

    def run(options, context):
        ran.append(context.name)
        return {"miou": float("nan") if options.get("split") == "void" else 0.5}

    def inputs(options, begun):
        return {"checkpoint": options.get("checkpoint", ""), "init.checkpoint": "" if begun else options["init"]}

    def read(settings, where):
        return {**settings, "init": settings.get("init", {}).get("checkpoint", "")}

    for kind in ("train", "evaluate"):
        stage = dataclasses.replace(recipe.STAGES[kind], read=read, run=run, inputs=inputs, check=no_check)
        monkeypatch.setitem(recipe.STAGES, kind, stage)
    monkeypatch.setattr(recipe.time, "strftime", lambda text: f"2030-01-01 00:00:{len(ran):02d}")
    return ran


def config(split="test", stages=("teacher", "student", "evaluate")):
    student = dict(kind="train", init=dict(checkpoint="teacher"))
    return ConfigDict(
        dict(
            seed=0, stages=stages, dataset=dict(name="camvid"), teacher=dict(kind="train"), student=student,
            evaluate=dict(kind="evaluate", checkpoint="student", split=split),
        )
    )  # fmt: skip


def test_what_is_done_is_not_done_again(ran, tmp_path):
    reports = run_recipe(config(), workdir=tmp_path)
    assert ran == ["teacher", "student", "evaluate"] == list(reports)
    assert run_recipe(config(), workdir=tmp_path) == reports and len(ran) == 3
    with pytest.raises(UserError, match="finished with other settings .* give --stage=evaluate to run") as error:
        run_recipe(config(split="train"), workdir=tmp_path)
    assert "than these (evaluate.split: 'test' -> 'train'); give another --workdir, or" in str(error.value)


def test_an_evaluation_that_is_asked_for_runs_again(ran, tmp_path):
    """As docs/training.md does it with another protocol."""
    run_recipe(config(), workdir=tmp_path)
    run_recipe(config(split="train"), workdir=tmp_path, only="evaluate")
    assert ran[3:] == ["evaluate"]
    run_recipe(config(split="train"), workdir=tmp_path, only="student")
    assert ran[4:] == []  # a training is not


def test_what_is_newer_does_not_depend_on_clocks(ran, tmp_path, monkeypatch):
    """Hosts of other time zones, and the night in which the clock is put back."""
    monkeypatch.setattr(recipe.time, "strftime", lambda text: f"2030-01-01 00:00:{30 - len(ran):02d}")  # backwards
    run_recipe(config(), workdir=tmp_path)
    assert run_recipe(config(), workdir=tmp_path) and len(ran) == 3
    for name in ("teacher", "student"):
        (tmp_path / name / "report.json").unlink()
    run_recipe(config(), workdir=tmp_path)
    assert ran[3:] == ["teacher", "student", "evaluate"]


def test_reports_of_earlier_versions_are_ordered_by_time(ran, tmp_path):
    run_recipe(config(), workdir=tmp_path)
    for name in ("teacher", "student", "evaluate"):
        path = tmp_path / name / "report.json"
        report = json.loads(path.read_text())
        report = {key: value for key, value in report.items() if key not in ("run", "inputs")}
        finished = "2031" if name == "student" else "2030"
        path.write_text(json.dumps({**report, "finished": finished}))
    run_recipe(config(), workdir=tmp_path)
    assert ran[3:] == ["evaluate"]


def test_a_second_run_in_a_stages_folder_is_refused(ran, tmp_path):
    (tmp_path / "teacher").mkdir()
    with only_run(tmp_path / "teacher"):
        with pytest.raises(UserError, match="at work in .*teacher; wait for its end, stop it") as refused:
            run_recipe(config(), workdir=tmp_path)
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(refused.value) and not ran
        run_recipe(config(), workdir=tmp_path, only="student")  # commands may share out the stages of a run
    assert ran == ["student"]


def test_a_training_goes_on_without_what_it_began_with(ran, tmp_path):
    settings = config(stages=("student", "evaluate"))
    settings.student.init.checkpoint = str(tmp_path / "deleted")
    with pytest.raises(UserError, match="student.init.checkpoint=.* is no path"):
        run_recipe(settings, workdir=tmp_path / "run")
    (tmp_path / "run" / "student" / "checkpoints" / "100" / "state").mkdir(parents=True)
    assert list(run_recipe(settings, workdir=tmp_path / "run")) == ["student", "evaluate"]


def test_the_report_of_the_run_has_every_finished_stage(ran, tmp_path):
    run_recipe(config(), workdir=tmp_path)
    path = tmp_path / "report.json"
    path.unlink()  # as if a kill had come between the stage's report and the run's
    run_recipe(config(), workdir=tmp_path)
    assert list(json.loads(path.read_text())) == ["teacher", "student", "evaluate"]
    (tmp_path / "student" / "report.json").unlink()
    run_recipe(config(), workdir=tmp_path, only="student")
    assert list(json.loads(path.read_text())) == ["teacher", "student", "evaluate"]


def test_what_was_made_of_something_older_is_no_longer_done(ran, tmp_path):
    run_recipe(config(), workdir=tmp_path)
    (tmp_path / "student" / "report.json").unlink()
    run_recipe(config(), workdir=tmp_path)
    assert ran[3:] == ["student", "evaluate"]  # the score is of the new network
    (tmp_path / "teacher" / "report.json").unlink()
    with pytest.raises(UserError, match="what stage 'teacher' gave before it was run again; delete .*student"):
        run_recipe(config(), workdir=tmp_path)


def test_a_report_without_a_score_is_json(ran, tmp_path):
    run_recipe(config(split="void"), workdir=tmp_path)
    text = (tmp_path / "evaluate" / "report.json").read_text()
    assert "NaN" not in text and json.loads(text)["miou"] is None


def test_a_part_of_the_stages(ran, tmp_path):
    run_recipe(config(stages=("teacher",)), workdir=tmp_path)
    assert ran == ["teacher"]
    run_recipe(config(), workdir=tmp_path)
    assert ran == ["teacher", "student", "evaluate"]


def test_a_report_of_somebody_else_is_kept(ran, tmp_path):
    (tmp_path / "report.json").write_text('{"title": "my thesis"}')
    with pytest.raises(UserError, match="report.json was not written by a training run"):
        run_recipe(config(), workdir=tmp_path)
    assert ran == [] and (tmp_path / "report.json").read_text() == '{"title": "my thesis"}'


def test_misspelt_remote_addresses_are_refused(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for workdir in ("gs:/bucket/runs", Path("gs://bucket/runs"), "gcs://bucket/runs"):
        with pytest.raises(UserError, match=r"--workdir=.* is no address of a bucket. Did you mean gs://bucket/runs\?"):
            run_recipe(config(), workdir=workdir)
    remote = config()
    remote.student.init.checkpoint = "s3:/bucket/run"
    with pytest.raises(UserError, match="config key student.init.checkpoint=s3:/bucket/run is no address"):
        run_recipe(remote, workdir=tmp_path / "run")
    remote = config()
    remote.evaluate.split = "gs://bucket/run"
    with pytest.raises(UserError, match="config key evaluate.split=gs://bucket/run is a remote address, and only"):
        run_recipe(remote, workdir=tmp_path / "run")
    assert ran == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", recipe.STAGES)
def test_every_kind_of_stage_lists_what_differs(kind, ran, tmp_path, monkeypatch):
    stage = recipe.STAGES["train"]
    same = dict(read=stage.read, run=stage.run, inputs=stage.inputs, check=stage.check)
    stage = dataclasses.replace(recipe.STAGES[kind], **same)
    monkeypatch.setitem(recipe.STAGES, kind, stage)
    monkeypatch.setattr(recipe, "check_choices", lambda *_, **__: None)

    def run(**changes):
        section = dict(kind=kind, steps=(1, 2), limit=float("inf"), options=dict(a=1), **changes)
        settings = dict(seed=changes.get("seed", 0), stages=("one",), dataset=dict(name="camvid"), one=section)
        return run_recipe(ConfigDict(settings), workdir=tmp_path)

    run()
    run()
    assert len(ran) == (2 if kind == "compare" else 1)
    if kind == "compare":
        return
    with pytest.raises(UserError) as error:
        run(limit_=3, crop=dict(size=(3, 4)), seed=7)
    text = str(error.value)
    wanted = (
        "one.crop: nothing -> {'size': [3, 4]}",
        "one.limit_: nothing -> 3",
        "one.seed: nothing -> 7",
        "seed: 0 -> 7",
    )
    assert f"({'; '.join(wanted)})" in text
    assert ("only a longer duration lets" in text) == (kind in ("train", "train_video", "train_gsvnet"))
    assert text.endswith("give --stage=one to run stage 'one' again.") == (stage.again == "when_stale")
    many = {f"key{i}": i for i in range(11)}
    with pytest.raises(UserError, match=r"one.key0: nothing -> 0; .*; and 3 more\)"):
        run(**many)


def test_what_cannot_run_is_refused_before_the_first_stage_runs(ran, tmp_path):
    """A training of days would else come before the error."""
    run_recipe(config(), workdir=tmp_path)
    for name in ("teacher", "student"):
        (tmp_path / name / "report.json").unlink()
    with pytest.raises(UserError, match="evaluate.split: 'test' -> 'train'"):
        run_recipe(config(split="train", stages=("teacher", "evaluate")), workdir=tmp_path)
    assert len(ran) == 3
    run_recipe(config(), workdir=tmp_path)
    assert ran[3:] == ["teacher", "student", "evaluate"]
    (tmp_path / "teacher" / "report.json").unlink()
    with pytest.raises(UserError, match="what stage 'teacher' gave before it was run again; delete .*student"):
        run_recipe(config(), workdir=tmp_path)
    assert len(ran) == 6


def test_a_longer_training_goes_on_and_what_depends_on_it(ran, tmp_path, caplog):
    def longer(steps, stages=("teacher", "evaluate")):
        settings = config(stages=stages)
        settings.teacher.total_steps = steps
        settings.evaluate.checkpoint = "teacher"
        return settings

    (tmp_path / "teacher" / "checkpoints" / "100" / "state").mkdir(parents=True)
    run_recipe(longer(100), workdir=tmp_path)
    with caplog.at_level("INFO", logger="segjax"):
        run_recipe(longer(200), workdir=tmp_path)
    assert ran == ["teacher", "evaluate"] * 2
    assert "stage teacher was finished and goes on: teacher.total_steps: 100 -> 200" in caplog.text
    # a finished training that started from it does not go on by itself
    run_recipe(longer(200, ("teacher", "student")), workdir=tmp_path)
    with pytest.raises(UserError, match="what stage 'teacher' gave before it was run again; delete .*student"):
        run_recipe(longer(300, ("teacher", "student")), workdir=tmp_path)
    assert ran[4:] == ["student"]
