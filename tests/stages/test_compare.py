"""The stage "compare", the seeds of single stages, and the grid of the ablation recipe."""

import csv
import dataclasses
import json
import statistics

import cv2
import pytest
from ml_collections import ConfigDict

from configs import vplr_ablation
from segjax.errors import UserError
from segjax.evaluation.comparison import Cell, class_markdown, markdown, plot
from segjax.stages import recipe, run_recipe

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
    with pytest.raises(UserError, match="stage b0 has no report"):
        run_recipe(config(stages=("a0", "a1")), workdir=tmp_path)
    (tmp_path / "b0").mkdir()
    (tmp_path / "b0/report.json").write_text('{"kind": "train"}')
    with pytest.raises(UserError, match="stage b0 is of kind train"):
        run_recipe(config(stages=("a0", "a1")), workdir=tmp_path)


@pytest.mark.parametrize(
    "cells, sentence",
    [
        ((), "compare.cells is empty; name the stages to compare"),
        ((dict(series="a", at=0),), r"compare.cells\[0\].stages is missing"),
        (
            (dict(series="a", at=0, stages=("a0",), stage="a1"),),
            r"cells\[0\].stage is not known. Did you mean 'stages'",
        ),
    ],
)
def test_a_wrong_table_is_found_before_any_stage_runs(ran, tmp_path, cells, sentence):
    wrong = config(stages=("a0", "a1"))
    wrong.compare.cells = cells
    with pytest.raises(UserError, match=sentence):
        run_recipe(wrong, workdir=tmp_path)
    assert not ran and not list(tmp_path.iterdir())


def test_one_run_has_no_deviation_and_the_best_place_is_shown():
    cells = [
        Cell("a", 0, (0.5,), ({"road": 0.5},)),
        Cell("a", 1, (0.75,), ({"road": 0.75},)),
        Cell("a", 3, (0.25,), ({"road": 0.25},)),
        Cell("a, relaxed", 3, (0.5,), ({"road": None},)),
    ]
    assert markdown(cells, axis="k").splitlines()[2] == "| a | 50.0 | 75.0 | 25.0 |"
    assert class_markdown(cells).splitlines()[2:] == ["| a | 0 | 50.0 |", "| a | 1 | 75.0 |", "| a, relaxed | 3 |  |"]
    worse = [cells[1], Cell("a", 2, (0.25,), ({"road": 0.25},)), Cell("a", 3, (0.5,), ({"road": 0.5},))]
    assert class_markdown(worse).splitlines()[2:] == ["| a | 1 | 75.0 |", "| a | 3 | 50.0 |"], (
        "also where none is better"
    )
    assert plot(cells, title="t", axis="k", baseline="a").ndim == 3


def test_grid_of_the_ablation():
    found = vplr_ablation.get_config("k=1+2,seeds=2,rows=prediction_lp+reconstruction_jp+reconstruction_lp,every=3")
    trained = [name for name in found.stages if found[name].kind == "train"]
    assert len(trained) == 2 * (2 + 3 * 2 + 2)  # seeds x (baselines + plain + relaxed)
    assert found.stages[:2] == ("train_video_prediction", "propagate_prediction") and found.stages[-1] == "compare"
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
    every = vplr_ablation.get_config("cityscapes,data=x,k=3,accumulated,relaxed=,rows=flow_jp,seeds=1")
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
