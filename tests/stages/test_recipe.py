"""Which stages of a recipe run, run again, or are refused, and what the reports say."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from segjax.errors import UserError
from segjax.stages import recipe, run_recipe


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
        stage = dataclasses.replace(recipe.STAGES[kind], read=read, run=run, inputs=inputs)
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
    with pytest.raises(UserError, match="finished with other settings .* give --stage=evaluate to run"):
        run_recipe(config(split="train"), workdir=tmp_path)


def test_an_evaluation_that_is_asked_for_runs_again(ran, tmp_path):
    """As docs/training.md does it with another protocol."""
    run_recipe(config(), workdir=tmp_path)
    run_recipe(config(split="train"), workdir=tmp_path, only="evaluate")
    assert ran[3:] == ["evaluate"]
    run_recipe(config(split="train"), workdir=tmp_path, only="student")
    assert ran[4:] == []  # a training is not


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


def test_remote_addresses_are_refused(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--workdir=gs://bucket/runs is a remote address"):
        run_recipe(config(), workdir="gs://bucket/runs")
    remote = config()
    remote.student.init.checkpoint = "s3://bucket/run"
    with pytest.raises(UserError, match="config key student.init.checkpoint=s3://bucket/run is a remote"):
        run_recipe(remote, workdir=tmp_path / "run")
    assert ran == [] and list(tmp_path.iterdir()) == []
