"""Plots: what they show, and that they need no global state of matplotlib."""

import json
import subprocess
import sys

import numpy as np
import pytest

from segjax import visualize

NAMES = ("road", "sky", "car")


def test_confusion_plot_shows_rows_as_shares():
    matrix = np.array([[90, 10, 0], [0, 5, 5], [0, 0, 0]])
    out = visualize.confusion_plot(matrix, NAMES)
    assert out.dtype == np.uint8 and out.ndim == 3 and min(out.shape[:2]) > 200
    np.testing.assert_array_equal(out, visualize.confusion_plot(np.array([[9, 1, 0], [0, 1, 1], [0, 0, 0]]), NAMES))
    assert (out != visualize.confusion_plot(matrix.T, NAMES)).any()


def test_curves_reads_the_log_and_survives_a_torn_line(tmp_path):
    records = [{"step": i, "loss": 1 / (i + 1), "lr": 0.1, "note": "x"} for i in range(100)]
    records.append({"step": 50, "val/miou": 0.3})
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, records)) + '\n{"step": 101, "lo')
    three = visualize.curves(log)
    np.testing.assert_array_equal(three, visualize.curves(records))
    one = visualize.curves(records, panels={"loss": ("loss",)})
    assert one.shape[1] * 2 < three.shape[1]
    with pytest.raises(ValueError, match="no record"):
        visualize.curves([{"step": 1, "speed": 2.0}])


def test_curves_leaves_out_nan():
    visualize.curves([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}])


def test_interval_plot_tells_which_contain_zero():
    first = visualize.interval_plot(["a", "b"], [1.0, -1.0], [0.5, 2.0], title="t", x_label="x")
    second = visualize.interval_plot(["a", "b"], [1.0, -1.0], [0.5, 0.5], title="t", x_label="x")
    assert first.dtype == np.uint8 and first.ndim == 3 and (first.shape != second.shape or (first != second).any())
    red = lambda picture: ((picture[..., 0] > 180) & (picture[..., 1] < 80)).sum()  # noqa: E731
    assert red(second) > red(first) == 0


def test_line_plot_with_text_on_the_axis_and_a_band():
    lines = [visualize.Line("a", [0, 2], [1.0, 2.0], [0.1, 0.2]), visualize.Line("b", [1], [1.5], dashed=True)]
    plots = [
        visualize.line_plot(lines, level=1.2, level_name="base", **options)
        for options in ({}, {"ticks": ("1:1", "3:1", "7:1")}, {"level_band": 0.2})
    ]
    assert all(one.shape == plots[0].shape for one in plots)
    assert (plots[0] != plots[1]).any() and (plots[0] != plots[2]).mean() > 0.02, "a band is an area"


def test_pictures_need_no_pyplot(root):

    code = (
        "import numpy as np, sys; from segjax import visualize as v;"
        "v.confusion_plot(np.eye(2), ('a', 'b'));"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
