"""The stage "compare", the seeds of single stages, and the grid of the ablation recipe."""

import csv
import dataclasses
import json
import re
import statistics

import cv2
import pytest
from ml_collections import ConfigDict

from configs import vplr_ablation
from segjax.errors import UserError
from segjax.stages import compare, recipe, run_recipe

SCORES = {"a0": 0.25, "a1": 0.75, "b0": 0.5, "b1": 0.625}


def config(stages=("a0", "a1", "b0", "b1"), **seeds):
    """Stages that "evaluate", and one that compares them."""
    cells = (dict(series="base", at=0, stages=("a0", "a1")), dict(series="more", at=2, stages=("b0", "b1")))
    config = ConfigDict(dict(seed=7, stages=(*stages, "compare"), dataset=dict(name="synthetic_street")))
    for name in stages:
        config[name] = dict(kind="evaluate", checkpoint="", split="test", **({"seed": seeds[name]} if seeds else {}))
    config.compare = dict(kind="compare", title="all", axis="k", baseline="base", cells=cells)
    return config


@pytest.fixture
def ran(monkeypatch):
    """(stage, seed) of every evaluation that ran; its score is that of SCORES."""
    ran = []

    def evaluate(options, context):
        assert "seed" not in context.settings
        ran.append((context.name, context.seed))
        return {"miou": SCORES[context.name], "iou": {"road": SCORES[context.name], "sky": None}}

    stage = dataclasses.replace(recipe.STAGES["evaluate"], run=evaluate)
    monkeypatch.setitem(recipe.STAGES, "evaluate", stage)
    return ran


def test_seeds_tables_plot_and_a_second_run(ran, tmp_path):
    seeds = dict(zip(SCORES, (0, 1, 0, 1)))
    report = run_recipe(config(**seeds), workdir=tmp_path)["compare"]
    assert ran == list(seeds.items())
    first, second = report["cells"]
    assert (first["miou"], second["miou"]) == (0.5, 0.5625)
    assert first["deviation"] == pytest.approx(statistics.stdev([0.25, 0.75]))
    assert first["seeds"] == second["seeds"] == [0, 1] and first["difference"] is None
    found = second["difference"]
    assert (found["minus"], found["at"], found["paired_by"], found["pairs"]) == ("base", 0, "seed", [0, 1])
    assert (found["mean"], found["interval"]) == (0.0625, "contains 0")
    ends = [found["half_width"], found["low"] - 0.0625, found["high"] - 0.0625]
    assert ends == pytest.approx([12.7062047 * sign * 0.1875 for sign in (1, -1, 1)])
    table = (tmp_path / "compare/table.md").read_text()
    assert "| base | 50.0 ± 35.4 |  |" in table and "| more |  | 56.2 ± 8.8 |" in table
    rows = list(csv.DictReader((tmp_path / "compare/table.csv").open()))
    assert [row["run_1"] for row in rows] == ["0.750000", "0.625000"] and rows[0]["runs"] == "2"
    classes = list(csv.DictReader((tmp_path / "compare/classes.csv").open()))
    assert classes[1]["road"] == "0.562500" and classes[1]["sky"] == ""
    assert cv2.imread(str(tmp_path / "compare/curves.png")).std() > 5
    # what is done is not done again, but compared again
    (tmp_path / "b1/report.json").write_text(
        json.dumps({**json.loads((tmp_path / "b1/report.json").read_text()), "miou": 1.0})
    )
    again = run_recipe(config(**seeds), workdir=tmp_path)["compare"]
    assert len(ran) == 4 and again["cells"][1]["miou"] == 0.75


def test_the_seed_of_the_run_is_for_stages_without_one(ran, tmp_path):
    run_recipe(config(), workdir=tmp_path)
    assert {seed for _, seed in ran} == {7}


def test_what_cannot_be_compared(ran, tmp_path):
    for name in ("b0", "b1"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        UserError, match="stage b0 has no report .* or compare what is finished with --config.compare.p"
    ):
        run_recipe(config(stages=("a0", "a1")), workdir=tmp_path)
    (tmp_path / "b0/report.json").write_text('{"kind": "train", "validation": {"miou": 0.5}}')
    with pytest.raises(
        UserError, match=r"b0/report.json \(kind train\) has no number 'miou'. Did you mean 'validation.m"
    ):
        run_recipe(config(stages=("a0", "a1")), workdir=tmp_path)
    (tmp_path / "b0/report.json").write_text('{"kind": "evaluate", "miou": null}')
    with pytest.raises(UserError, match="b0/report.json has miou = null, .* evaluate on labelled images"):
        run_recipe(config(stages=("a0", "a1")), workdir=tmp_path)
    assert len(ran) == 2, "finished stages are skipped"


def test_a_stage_that_nobody_runs_is_found_before_any_stage_runs(ran, tmp_path):
    with pytest.raises(
        UserError, match=r"compare.cells\[1\].stages\[0\]='b0' is no path, and no stage before 'compare'"
    ):
        run_recipe(config(stages=("a0", "a1")), workdir=tmp_path)
    assert not ran


def test_a_comparison_of_what_is_finished(ran, tmp_path):
    study = config(a0=0, a1=1, b0=0, b1=1)
    study.compare.partial = True
    with pytest.raises(UserError, match="none of the 4 stages of compare.cells is finished"):
        run_recipe(study, workdir=tmp_path, only="compare")
    for name in ("a0", "a1", "b1"):
        run_recipe(study, workdir=tmp_path, only=name)
    report = run_recipe(study, workdir=tmp_path, only="compare")["compare"]
    assert report["missing"] == ["b0"] and report["cells"][1]["runs"] == 1
    assert report["cells"][1]["difference"]["pairs"] == [1] and report["cells"][1]["difference"]["mean"] == -0.125
    assert "Not finished, not in these tables: b0." in (tmp_path / "compare/table.md").read_text()
    assert run_recipe(study, workdir=tmp_path)["compare"]["missing"] == []


def test_numbers_of_any_kind_and_the_seed_of_the_training_run(tmp_path):
    """Evaluations have the seed of the run; their trainings differ by theirs, and are paired by it."""

    def put(name, kind, seed=None, checkpoint=None, **results):
        section = {"kind": kind, **({} if seed is None else {"seed": seed})}
        section |= {} if checkpoint is None else {"checkpoint": checkpoint}
        (tmp_path / name).mkdir()
        report = dict(kind=kind, settings=dict(seed=9, stage=section), **results)
        (tmp_path / name / "report.json").write_text(json.dumps(report))

    for name, seeds in (("old", (1, 2)), ("new", (3, 2, 1))):
        for seed in seeds:
            put(f"train_{name}{seed}", "train", seed, seconds=100 + seed)
            extra = dict(miou=0.1 * seed + 0.05 * (name == "new"), iou={"Car": 0.5}, boundary_f={"mean": 0.25})
            put(f"{name}{seed}", "evaluate", checkpoint=f"train_{name}{seed}", **extra)
    cells = (
        dict(series="old", at="1:1", stages=("old1", "old2")),
        dict(series="new", at="7:1", stages=("new3", "new2", "new1")),
    )
    columns = ("miou", "iou.Car", "checkpoint.seconds", dict(key="boundary_f.mean", label="outlines"))
    section = dict(kind="compare", cells=cells, columns=columns, baseline="old", rule="higher is better.", axis="ratio")
    study = dict(seed=0, stages=("compare",), dataset=dict(name="camvid"), compare=section)
    found = run_recipe(ConfigDict(study), workdir=tmp_path)["compare"]["cells"][1]
    assert found["seeds"] == [3, 2, 1] and found["difference"]["pairs"] == [2, 1]
    assert found["difference"]["paired_by"] == "seed" and found["difference"]["mean"] == pytest.approx(0.05)
    assert found["difference"]["interval"] == "above 0"
    assert (found["checkpoint.seconds"], found["boundary_f.mean"], found["iou.Car"]) == (102, 0.25, 0.5)
    table = (tmp_path / "compare/table.md").read_text()
    assert "Rule: higher is better.\n" in table and "| ratio | 1:1 | 7:1 |" in table
    assert "| mIoU, percent | IoU Car, percent | checkpoint seconds | outlines, percent |" in table
    assert "| above 0 | 0.0 points or more | 2 of 3 |" in table


def test_a_pairing_by_position_is_said(ran, tmp_path, caplog):
    with caplog.at_level("WARNING", "segjax"):
        report = run_recipe(config(), workdir=tmp_path)["compare"]
    assert report["cells"][1]["difference"]["paired_by"] == "position"
    assert "more at 2 and base: seeds of their training runs are unknown or repeated" in caplog.text


CELL = dict(series="base", at=1, stages=("a0",))


@pytest.mark.parametrize(
    "cells, sentence",
    [
        ((), "compare.cells is empty; name the stages to compare"),
        ((dict(series="a", at=0),), r"compare.cells\[0\].stages is missing"),
        (
            (dict(series="a", at=0, stages=("a0",), stage="a1"),),
            r"cells\[0\].stage is not known. Did you mean 'stages'",
        ),
        ((dict(CELL, at=True),), r"cells\[0\].at=True must be a number or text"),
        ((dict(CELL, stages="a0"),), r"cells\[0\].stages='a0' must list names"),
        ((dict(CELL, style="dotted"),), r"cells\[0\].style='dotted' is not known"),
        ((CELL, CELL), r"cells\[1\] repeats 'base' at 1"),
        ((CELL, dict(CELL, at=2, group="x")), r"cells\[1\]: all cells of 'base' must have the same group"),
        ((dict(CELL, baseline="bas"),), r"cells\[0\].baseline='bas' is no series. Did you mean 'base'"),
        ((dict(CELL, series="new"),), r"compare.baseline='base' is no series"),
    ],
)
def test_a_wrong_table_is_found_before_any_stage_runs(ran, tmp_path, cells, sentence):
    wrong = config(stages=("a0", "a1"))
    wrong.compare.cells = cells
    with pytest.raises(UserError, match=sentence):
        run_recipe(wrong, workdir=tmp_path)
    assert not ran and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (dict(columns=()), r"columns=\[\] must list one number of the reports or more"),
        (dict(columns="miou"), "columns='miou' must list one number of the reports or more"),
        (dict(columns=("miou", "miou")), "more, each once, such as"),
        (dict(columns=(dict(kee="miou"),)), r"columns\[0\].kee is not known. Did you mean 'key'"),
        (dict(partial="yes"), "compare.partial='yes' must be True or False"),
    ],
)
def test_a_wrong_column_is_found_before_any_stage_runs(ran, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        wrong = config(stages=("a0", "a1", "b0", "b1"))
        wrong.compare.update(changes)
        run_recipe(wrong, workdir=tmp_path)
    assert not ran


def test_the_example_of_the_documentation_is_read(root):
    code = re.findall(r"```python\n(compare = .*?)```", (root / "docs/training.md").read_text(), re.DOTALL)
    scope = {}
    exec(code[0], scope)
    options = compare.read(ConfigDict(scope["compare"]), "compare")
    assert [cell.at for cell in options.cells] == ["labels only", "1:1", "7:1"] and len(options.columns) == 4


def test_grid_of_the_ablation():
    rows = "prediction_lp+reconstruction_jp+reconstruction_lp"
    found = vplr_ablation.get_config(f"k=1+2,seeds=2,longer=0,rows={rows},every=3")
    trained = [name for name in found.stages if found[name].kind == "train"]
    assert len(trained) == 2 * (2 + 3 * 2 + 2)  # seeds x (baselines + plain + relaxed)
    first = found.stages.index("train_video_prediction")
    assert all("baseline" in name for name in found.stages[:first]) and found.stages[-1] == "compare"
    assert found.stages[first + 1] == "propagate_prediction" and "headroom" not in found.stages
    assert found.dataset.train == "train::3"
    assert tuple(found.propagate_reconstruction.modes) == ("jp", "lp") and found.propagate_reconstruction.steps == 2
    assert found.propagate_reconstruction.checkpoint == "train_video_reconstruction"
    one = found.train_reconstruction_lp_k2_plain_seed1
    assert one.extra.to_dict() == dict(stage="propagate_reconstruction", mode="lp", steps=(2,)) and one.seed == 1
    assert one.loss.main.name == "cross_entropy"
    assert found.train_reconstruction_jp_k2_relaxed_seed1.loss.main.name == "relaxed_cross_entropy"
    assert {found[name].total_steps for name in trained} == {400}
    for cell in found.compare.cells:
        assert all(found[stage].kind == "evaluate" and stage in found.stages for stage in cell["stages"])
    assert {(c["series"], c["at"]) for c in found.compare.cells if c["at"] == 2} == {
        (name, 2)
        for name in ("prediction + LP", "reconstruction + JP", "reconstruction + LP", "reconstruction + JP, relaxed")
    }
    looks = {c["series"]: (c["group"], c["style"], c["baseline"]) for c in found.compare.cells}
    assert looks["reconstruction + LP"] == ("reconstruction + LP", "dashed", "baseline")
    assert looks["reconstruction + JP, relaxed"] == ("reconstruction + JP", "solid", "baseline, relaxed")
    assert looks["baseline, relaxed"] == ("baseline", "solid", "baseline")
    every = vplr_ablation.get_config("cityscapes,data=x,k=3,sets=all,relaxed=,rows=flow_jp,seeds=1")
    assert every.train_flow_jp_all3_plain_seed0.extra.steps == (1, 2, 3)
    assert every.train_flow_jp_all3_plain_seed0.total_epochs * 7 <= every.train_baseline_plain_seed0.total_epochs
    assert every.propagate_flow.split == "train"


@pytest.mark.parametrize(
    "arg, message",
    [
        ("k=1+x", "holds 'x'"),
        ("k=0", "holds '0'"),
        ("rows=recon_jp", "did you mean"),
        ("rows=flow_xp", "unknown mode"),
        ("crop=64xa", "crop='64xa' is no size; write HEIGHTxWIDTH"),
        ("seeds=0", "must be 1 or more"),
        ("own", "unknown preset"),
        ("crop=12", "crop='12' is no size"),
    ],
)
def test_wrong_options_of_the_ablation(arg, message):
    with pytest.raises(ValueError, match=message):
        vplr_ablation.get_config(arg)
