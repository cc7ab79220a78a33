"""Numbers of reports by name, and the seed of the training run behind a report."""

import json

import pytest

from segjax.errors import UserError
from segjax.stages.report_files import read_report
from segjax.stages.report_values import number_of, seed_of


def put(folder, seed=0, checkpoint="", own=None, **results):
    """Writes the report of a stage into a folder, and returns it."""
    stage = {"checkpoint": checkpoint} | ({} if own is None else {"seed": own})
    report = dict(kind="x", settings=dict(seed=seed, stage=stage), **results)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    return report


def test_names_of_numbers(tmp_path):
    report = {"kind": "evaluate", "miou": 0.5, "iou": {"Car": 0.25, "a.b": 1, "sky": None}, "name": "x", "ok": True}
    find = lambda name: number_of(report, name, tmp_path)  # noqa: E731
    assert [find(name) for name in ("miou", "iou.Car", "iou.a.b", "iou.sky")] == [0.5, 0.25, 1, None]
    with pytest.raises(
        UserError, match=r"report.json \(kind evaluate\) has no number 'iou.Cat'. Did you mean 'iou.Car'"
    ):
        find("iou.Cat")
    for name in ("name", "ok", "iou", "miou.x"):
        with pytest.raises(UserError, match=f"has no number '{name}'"):
            find(name)


def test_numbers_of_the_stage_that_trained(tmp_path):
    put(tmp_path / "train", seconds=7)
    report = put(tmp_path / "evaluate", checkpoint="train")
    assert number_of(report, "checkpoint.seconds", tmp_path / "evaluate") == 7
    with pytest.raises(UserError, match="train/report.json .* has no number 'second'. Did you mean 'seconds'"):
        number_of(report, "checkpoint.second", tmp_path / "evaluate")
    with pytest.raises(UserError, match="has no number 'checkpoint.x', because its settings name no checkpoint"):
        number_of(read_report(tmp_path / "train"), "checkpoint.x", tmp_path / "train")
    lost = put(tmp_path / "lost", checkpoint=str(tmp_path / "weights"))
    with pytest.raises(UserError, match="'checkpoint.x', because .*weights has no report"):
        number_of(lost, "checkpoint.x", tmp_path / "lost")


def test_the_seed_is_that_of_the_training_run(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    assert seed_of(put(run / "train", seed=3), run / "train") == 3
    assert seed_of(put(run / "own", seed=3, own=5), run / "own") == 5
    assert seed_of(put(run / "evaluate", seed=3, checkpoint="own", own=8), run / "evaluate") == 5
    assert seed_of(put(other / "evaluate", seed=0, checkpoint=str(run / "own")), other / "evaluate") == 5
    put(run / "pseudo", seed=0, checkpoint="own")
    assert seed_of(put(run / "more", seed=0, checkpoint="pseudo"), run / "more") == 5


def test_an_unknown_seed(tmp_path):
    lost = put(tmp_path / "lost", checkpoint=str(tmp_path / "weights"))
    assert seed_of(lost, tmp_path / "lost") is None
    assert seed_of({"kind": "evaluate"}, tmp_path) is None, "the report of an early version"
    first = put(tmp_path / "a", checkpoint="b")
    put(tmp_path / "b", checkpoint="a")
    assert seed_of(first, tmp_path / "a") is None, "each names the other"


def test_no_report_and_a_damaged_one(tmp_path):
    assert read_report(tmp_path) is None
    for text in ('{"kind": ', "[1]"):
        (tmp_path / "report.json").write_text(text)
        assert read_report(tmp_path) is None
