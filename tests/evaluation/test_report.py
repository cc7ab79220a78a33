"""Reports of an evaluation: files, the table on the screen, and errors."""

import csv

import cv2
import numpy as np
import pytest
from rich.console import Console

from segjax.errors import UserError
from segjax.evaluation import evaluate, print_scores, write_report
from segjax.evaluation.report import ROWS_PER_SHEET
from tests.evaluation.toy_records import NAMES, PALETTE, K, batches, by_value, toy_records


@pytest.fixture(scope="module")
def records():
    return toy_records()


def test_report_files(tmp_path, records):
    result = evaluate(by_value, batches(records, 4), num_classes=K, worst=ROWS_PER_SHEET + 1)
    paths = write_report(
        result, tmp_path / "report", class_names=NAMES, palette=PALETTE, names=lambda i: f"drive/frame_{i}", title="val"
    )
    assert [p.name for p in paths] == ["classes.csv", "confusion.csv", "confusion.png", "worst_1.png", "worst_2.png"]
    rows = {row["class"]: row for row in csv.DictReader((tmp_path / "report/classes.csv").open())}
    assert float(rows["mean"]["iou"]) == pytest.approx(result.scores["miou"], abs=1e-6)
    assert float(rows["car"]["recall"]) == pytest.approx(result.matrix[2, 2] / result.matrix[2].sum(), abs=1e-6)
    table = list(csv.reader((tmp_path / "report/confusion.csv").open()))
    np.testing.assert_array_equal(np.array([row[1:] for row in table[1:]], int), result.matrix)
    for path in paths[2:]:
        assert cv2.imread(str(path)) is not None


def test_best_images_stand_beside_the_worst(tmp_path, records):
    result = evaluate(by_value, batches(records, 4), num_classes=K, worst=2, best=ROWS_PER_SHEET + 1)
    paths = write_report(result, tmp_path, class_names=NAMES, palette=PALETTE)
    assert [p.name for p in paths[3:]] == ["worst_1.png", "best_1.png", "best_2.png", "best_beside_worst.png"]
    beside, worst = cv2.imread(str(paths[-1])), cv2.imread(str(paths[3]))
    assert beside.shape[1] > worst.shape[1], "two images of four tiles each"


def test_table_shows_percent_and_a_dash_for_absent_classes():
    matrix = np.array([[90, 10, 0, 0], [0, 50, 0, 0], [0, 0, 30, 20], [0, 0, 0, 0]])
    matrix[2, 3] = 0
    console = Console(width=100)
    with console.capture() as capture:
        print_scores(matrix, NAMES, title="validation", console=console)
    lines = capture.get().splitlines()
    cells = {line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:6]] for line in lines if "│" in line}
    assert cells["road"] == ["90.0", "90.0", "100.0", "55.6"]
    assert cells["tree"] == ["-", "-", "-", "0.0"]
    assert cells["mean"][0] == f"{100 * (0.9 + 50 / 60 + 1) / 3:.1f}"


def test_a_report_that_cannot_be_written(tmp_path, records):
    result = evaluate(by_value, batches(records[:2], 2), num_classes=K)
    (tmp_path / "report").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(result, tmp_path / "report", class_names=NAMES, palette=PALETTE)
