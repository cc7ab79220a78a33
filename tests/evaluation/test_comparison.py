"""Comparisons: which runs are paired, and what tables, CSV files and plots show."""

import csv
import dataclasses
import io

import numpy as np
import pytest
import scipy.stats

from segjax.evaluation import comparison_plots
from segjax.evaluation.comparison import Cell, Comparison, Run, baseline_of, column, difference, differences
from segjax.evaluation.comparison_files import class_differences_csv, classes_csv, table_csv, write_comparison
from segjax.evaluation.comparison_plots import differences_plot, plot
from segjax.evaluation.comparison_tables import (
    class_differences_markdown,
    class_markdown,
    difference_lines,
    differences_markdown,
    markdown,
    numbers_markdown,
    page,
)


def runs(name, scores, seeds=None, **more):
    """Runs with these mIoU, which are also the IoU of the class road."""
    seeds = range(len(scores)) if seeds is None else seeds
    return tuple(
        Run(f"{name}{seed}", seed, {"miou": score, **more}, {"road": score, "sky": None})
        for seed, score in zip(seeds, scores)
    )


TEACHER = Cell("teacher", "none", runs("t", (0.50, 0.52, 0.54, 0.51, 0.55)), baseline="teacher")
STUDENT = Cell("student", "7:1", runs("s", (0.54, 0.53, 0.52), seeds=(2, 1, 0)), baseline="teacher")
ONE = Cell("student", "1:1", runs("o", (0.56,)), baseline="teacher")
ALL = Comparison((TEACHER, STUDENT, ONE), title="all", axis="ratio", baseline="teacher", rule="it is above 0")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_runs_are_paired_by_seed_not_by_position():
    found = difference(STUDENT, TEACHER, key="miou")
    low, high = scipy.stats.ttest_rel([0.54, 0.53, 0.52], [0.54, 0.52, 0.50]).confidence_interval(0.95)
    assert (found.by, found.pairs, found.most) == ("seed", (2, 1, 0), 5)
    np.testing.assert_allclose((found.interval.low, found.interval.high), (low, high))
    assert found.interval.mean == pytest.approx(0.01)
    by_class = difference(STUDENT, TEACHER, class_name="road")
    assert by_class.interval == found.interval
    assert difference(STUDENT, TEACHER, class_name="sky").interval is None


@pytest.mark.parametrize("seeds", [(None, 1, 2), (0, 0, 1)])
def test_unknown_and_repeated_seeds_are_paired_by_position(seeds):
    other = dataclasses.replace(STUDENT, runs=runs("s", (0.54, 0.53, 0.52), seeds=seeds))
    found = difference(other, TEACHER, key="miou")
    assert found.by == "position" and found.pairs == (0, 1, 2)
    assert found.interval.mean == pytest.approx((0.54 + 0.53 + 0.52 - 0.50 - 0.52 - 0.54) / 3)
    assert "| 3 of 5, by position |" in differences_markdown(Comparison((TEACHER, other)))


def test_a_missing_run_does_not_move_the_others():
    other = dataclasses.replace(STUDENT, runs=(None, *runs("s", (0.53, 0.52), seeds=(None, None))))
    found = difference(other, TEACHER, key="miou")
    assert found.pairs == (1, 2) and found.interval.mean == pytest.approx((0.53 + 0.52 - 0.52 - 0.54) / 2)
    assert len(other.done) == 2 and other.mean("miou") == pytest.approx(0.525)


def test_which_cell_is_the_baseline():
    base = [Cell("base", at, runs(f"b{at}", (0.5,)), baseline="base") for at in (1, 3)]
    cells = [Cell("other", at, runs(f"o{at}", (0.5,)), baseline="base") for at in (3, 4)]
    none = [dataclasses.replace(cells[0], baseline=""), dataclasses.replace(cells[1], runs=base[0].runs)]
    found = [baseline_of(cell, (*base, *cells)) for cell in (*cells, *base, *none)]
    assert found == [base[1], base[0], None, None, None, None]
    assert baseline_of(cells[1], (dataclasses.replace(base[0], runs=(None,)), cells[1])) is None


def test_table_of_differences_states_interval_verdict_and_power():
    half = 0.01 * 4.302652729911275 / 3**0.5  # the deviation of 0, 1 and 2 points is 1
    lines = differences_markdown(ALL).splitlines()
    assert lines[0].startswith(
        "| | ratio | minus | difference of mIoU, points | 95 % interval | it is | shows | pairs |"
    )
    ends = f"{100 * (0.01 - half):+.1f} to {100 * (0.01 + half):+.1f}"
    assert lines[2] == (
        f"| student | 7:1 | teacher | +1.0 | {ends} | contains 0 | {100 * half:.1f} points or more | 3 of 5 |"
    )
    assert lines[3] == "| student | 1:1 | teacher | +6.0 | one pair, no interval |  |  | 1 of 5 |"
    assert difference_lines(ALL) == [
        f"student, 7:1 minus teacher: +1.0, 95 % interval {ends}: contains 0; "
        f"3 of 5 pairs show {100 * half:.1f} points or more",
        "student, 1:1 minus teacher: +6.0, one pair, no interval",
    ]
    assert "Rule: it is above 0." in page(ALL) and "Rule" not in page(dataclasses.replace(ALL, rule=""))
    strangers = dataclasses.replace(STUDENT, runs=runs("s", (0.5, 0.6), seeds=(8, 9)))
    assert "| - | no common seed |" in differences_markdown(Comparison((TEACHER, strangers)))
    assert differences_markdown(Comparison((dataclasses.replace(STUDENT, baseline=""),))) == ""


def test_every_verdict_is_said():
    base = Cell("base", 0, runs("b", (0.5, 0.5, 0.5)))
    for shift, verdict in ((0.02, "above 0"), (0.0, "contains 0"), (-0.02, "below 0")):
        scores = (0.5 + shift, 0.501 + shift, 0.499 + shift)
        other = Cell("other", 0, runs("o", scores), baseline="base")
        assert f"| {verdict} |" in differences_markdown(Comparison((base, other)))
        assert ("**" in class_differences_markdown(Comparison((base, other)))) == (verdict != "contains 0")


def test_differences_by_class():
    lines = class_differences_markdown(ALL).splitlines()
    assert lines[0] == "| IoU, points | student, 7:1 minus teacher | student, 1:1 minus teacher |"
    assert lines[2:4] == ["| road | +1.0 ± 2.5 | +6.0 |", "| sky | - | - |"]
    rows = rows_of(class_differences_csv(ALL))
    assert [(row["class"], row["at"]) for row in rows] == [
        ("road", "7:1"), ("road", "1:1"), ("sky", "7:1"), ("sky", "1:1"),
    ]  # fmt: skip
    assert (rows[0]["difference"], rows[0]["pairs"], rows[0]["interval"]) == ("0.010000", "2 1 0", "contains 0")
    assert rows[1]["low"] == rows[2]["difference"] == ""


def test_csv_has_all_numbers():
    cells = (
        Cell("base", 0, runs("b", (0.5, 0.75), seconds=100.0)),
        Cell("more", 2, (*runs("m", (0.5,), seconds=110.5), None), baseline="base"),
    )
    rows = rows_of(table_csv(Comparison(cells, (column("miou"), column("seconds")))))
    assert [(row["series"], row["number"], row["runs"]) for row in rows] == [
        ("base", "miou", "2"), ("base", "seconds", "2"), ("more", "miou", "1"), ("more", "seconds", "1"),
    ]  # fmt: skip
    assert (rows[0]["mean"], rows[0]["run_0"], rows[0]["run_1"]) == ("0.625000", "0.500000", "0.750000")
    assert rows[0]["seeds"] == "0 1" and rows[0]["difference"] == "" and float(rows[0]["deviation"]) > 0.17
    assert (rows[3]["difference"], rows[3]["baseline"], rows[3]["baseline_at"]) == ("10.500000", "base", "0")
    assert rows[3]["run_1"] is None or rows[3]["run_1"] == ""


def test_columns_of_other_kinds():
    cells = (
        Cell("a", 1, runs("a", (0.5, 0.6), **{"steps": 12000, "loss": 0.0123, "iou.Car": None})),
        Cell("b", 1, runs("b", (0.5, 0.7), **{"steps": 300, "loss": 2.5, "iou.Car": 0.25})),
    )
    columns = tuple(map(column, ("miou", "iou.Car", "steps", "loss")))
    assert [one.heading for one in columns] == ["mIoU, percent", "IoU Car, percent", "steps", "loss"]
    lines = numbers_markdown(Comparison(cells, columns, axis="k")).splitlines()
    assert lines[0] == "| | k | runs | mIoU, percent | IoU Car, percent | steps | loss |"
    assert lines[2] == "| a | 1 | 2 | 55.0 ± 7.1 | - | 12000 ± 0 | 0.0123 ± 0.0000 |"
    assert lines[3] == "| b | 1 | 2 | 60.0 ± 14.1 | 25.0 ± 0.0 | 300 ± 0 | 2.50 ± 0.00 |"
    assert numbers_markdown(Comparison(cells)) == ""
    assert column("miou", "x", False).text(0.5) == "0.500" and column("seconds", percent=True).text(0.5) == "50.0"
    assert [column("n").text(x, sign=True) for x in (3, -0.25, 1234.5, 0)] == ["+3", "-0.250", "+1234", "+0"]


def test_text_on_the_axis_keeps_its_order():
    assert ALL.places == ["none", "7:1", "1:1"]
    assert markdown(ALL).splitlines()[0] == "| ratio | none | 7:1 | 1:1 |"
    numbers = Comparison(tuple(Cell("a", at, runs("a", (0.5,))) for at in (10, 2, 0.5)))
    assert numbers.places == [0.5, 2, 10] and not numbers.has_text
    assert [line.split(" | ")[:2] for line in class_markdown(ALL).splitlines()[2:]] == [
        ["| teacher", "none"], ["| student", "7:1"], ["| student", "1:1"],
    ]  # fmt: skip


def test_numbers_of_runs_are_shown_where_they_differ():
    text = markdown(ALL)
    assert "52.4 ± 2.1 (5)" in text and "56.0 (1)" in text and "In parentheses: number of runs." in text
    assert "(" not in markdown(Comparison((STUDENT,)))


def test_what_is_not_finished_is_named():
    empty = Cell("student", "3:1", (None, None), baseline="teacher")
    text = page(dataclasses.replace(ALL, cells=(*ALL.cells, empty), missing=("e3", "e4")))
    assert "Not finished, not in these tables: e3, e4." in text and "Not finished" not in page(ALL)
    assert text.splitlines()[7].startswith("| student |  | 53.0 ± 1.0 (3) | 56.0 (1) | - |")
    assert "3:1 | teacher" not in text


def test_one_run_has_no_deviation_and_the_best_place_is_shown():
    cells = [Cell("a", at, runs(f"a{at}", (score,))) for at, score in ((0, 0.5), (1, 0.75), (3, 0.25))]
    other = Cell("a, relaxed", 3, (Run("r", 0, {"miou": 0.5}, {"road": None, "sky": None}),))
    assert markdown(Comparison((*cells, other), axis="k")).splitlines()[2] == "| a | 50.0 | 75.0 | 25.0 |"
    lines = class_markdown(Comparison((*cells, other))).splitlines()
    assert lines[0] == "| | at | road | sky |"
    assert lines[2:] == ["| a | 0 | 50.0 |  |", "| a | 1 | 75.0 |  |", "| a, relaxed | 3 |  |  |"]
    worse = [cells[1], Cell("a", 2, runs("x", (0.25,))), Cell("a", 3, runs("y", (0.5,)))]
    lines = class_markdown(Comparison(tuple(worse))).splitlines()
    assert lines[2:] == ["| a | 1 | 75.0 |  |", "| a | 3 | 50.0 |  |"], "also where none is better"
    assert rows_of(classes_csv(Comparison(tuple(worse))))[1] == {
        "series": "a",
        "at": "2",
        "road": "0.250000",
        "sky": "",
    }


@pytest.fixture
def drawn(monkeypatch):
    """What the plots were asked to draw: the arguments of every call."""
    drawn = []

    def line_plot(lines, **options):
        drawn.append((lines, options))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(comparison_plots.visualize, "line_plot", line_plot)
    return drawn


def test_plot_of_numbers_with_groups_and_styles(drawn):
    base, relaxed = runs("b", (0.5, 0.6)), runs("r", (0.6, 0.7))
    cells = [Cell("base", 0, base, group="base", style="dashed"), Cell("base, new", 0, relaxed, group="base")]
    for name, start, style in (("a", base, "dashed"), ("b", base, "dashed"), ("b, new", relaxed, "solid")):
        cells += [Cell(name, at, start if not at else runs(f"{name}{at}", (0.4, 0.5)), name[0], style) for at in (0, 3)]
    plot(Comparison(tuple(cells), axis="k", baseline="base"))
    lines, options = drawn[0]
    assert [(line.name, line.color, line.dashed) for line in lines] == [
        ("a", 0, True), ("b", 1, True), ("b, new", 1, False),
    ]  # fmt: skip
    assert all(line.x == [0, 3] for line in lines) and lines[2].y == pytest.approx([65, 45])
    assert lines[0].error == pytest.approx([100 * np.std([0.5, 0.6], ddof=1)] * 2)
    assert (options["level"], options["level_name"], options["level_band"]) == (pytest.approx(55), "base", 0)
    assert options["ticks"] == () and options["y_label"] == "mIoU, percent"


def test_plot_of_text_with_a_band(drawn):
    bound = Cell("bound", "none", runs("x", (0.7, 0.72)))
    plot(dataclasses.replace(ALL, cells=(*ALL.cells, bound), band=True))
    lines, options = drawn[0]
    assert [(line.name, line.x) for line in lines] == [("student", [1, 2]), ("bound", [0])]
    assert options["ticks"] == ["none", "7:1", "1:1"] and options["level_name"] == "teacher, with 95 % interval"
    scores = [0.50, 0.52, 0.54, 0.51, 0.55]
    low, high = scipy.stats.t.interval(0.95, 4, np.mean(scores), scipy.stats.sem(scores))
    assert options["level_band"] == pytest.approx(100 * (high - low) / 2)


def test_a_baseline_of_several_places_is_a_line(drawn):
    cells = [Cell(name, at, runs(name + str(at), (0.5,))) for name in ("base", "other") for at in (1, 2)]
    plot(Comparison(tuple(cells), (column("seconds", percent=False),), baseline="base"))
    assert drawn[0][0] == [] and drawn[0][1]["y_label"] == "seconds", "no run has this number"
    plot(Comparison(tuple(cells), baseline="base"))
    assert [line.name for line in drawn[1][0]] == ["base", "other"] and drawn[1][1]["level"] is None


def test_pictures_and_files(tmp_path):
    assert plot(ALL).std() > 5 and (plot(ALL) != plot(dataclasses.replace(ALL, band=True))).any()
    assert differences_plot(ALL).std() > 5
    names = {path.name for path in write_comparison(ALL, tmp_path)}
    assert names == {
        "table.md", "table.csv", "classes.csv", "class_differences.csv", "curves.png", "differences.png",
    } == {path.name for path in tmp_path.iterdir()}  # fmt: skip
    alone = dataclasses.replace(ALL, cells=(TEACHER,))
    assert differences_plot(alone) is None and differences(alone, key="miou") == []
    write_comparison(alone, tmp_path)
    assert not (tmp_path / "differences.png").exists(), "it would show an earlier comparison"
