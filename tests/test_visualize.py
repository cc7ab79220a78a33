"""Pictures: sizes and types, colours where they belong, and what a reader must be able to see."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax import visualize

PALETTE = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)], np.uint8)
NAMES = ("road", "sky", "car")


def labels(h=20, w=30, k=3, seed=0):
    return np.random.default_rng(seed).integers(0, k, (h, w)).astype(np.uint8)


def picture(h=20, w=30, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_colorize_is_a_table_lookup(dtype):
    ids = labels().astype(dtype)
    ids[0, 0] = 255
    out = visualize.colorize(ids, PALETTE, void=(9, 8, 7))
    assert out.dtype == np.uint8 and out.shape == (20, 30, 3)
    assert tuple(out[0, 0]) == (9, 8, 7)
    for y, x in [(3, 4), (19, 29), (7, 11)]:
        assert tuple(out[y, x]) == tuple(PALETTE[ids[y, x]])


def test_colorize_treats_ids_past_the_palette_and_negative_ids_as_void():
    out = visualize.colorize(np.array([[3, -1, 0]]), PALETTE)
    assert (out[0, :2] == 0).all() and tuple(out[0, 2]) == tuple(PALETTE[0])


def test_boundaries_lie_before_a_change():
    ids = np.zeros((4, 6), np.uint8)
    ids[:, 3:] = 1
    want = np.zeros((4, 6), bool)
    want[:, 2] = True
    np.testing.assert_array_equal(visualize.boundaries(ids), want)
    np.testing.assert_array_equal(visualize.boundaries(ids.T), want.T)


@given(st.floats(0, 1))
@settings(max_examples=10)
def test_overlay_mixes_by_alpha_and_leaves_void_alone(alpha):
    image, ids = picture(), labels()
    ids[5:9] = 255
    out = visualize.overlay(image, ids, PALETTE, alpha=alpha, outline=False)
    np.testing.assert_array_equal(out[5:9], image[5:9])
    inside = ids != 255
    want = (1 - alpha) * image[inside] + alpha * PALETTE[ids[inside]]
    assert np.abs(out[inside] - want).max() <= 0.5 + 1e-3


def test_overlay_outline_is_visible_between_classes_only():
    image = np.full((600, 40, 3), 90, np.uint8)
    ids = np.zeros((600, 40), np.uint8)
    ids[:, 20:] = 1
    plain = visualize.overlay(image, ids, PALETTE, outline=False)
    lined = visualize.overlay(image, ids, PALETTE)
    changed = (plain != lined).any(-1)
    assert changed[:, 19].all() and not changed[:, :17].any() and not changed[:, 23:].any()


def test_error_map_marks_exactly_the_wrong_valid_pixels():
    truth, prediction = labels(), labels()
    prediction[2:5, 3:9] = (truth[2:5, 3:9] + 1) % 3
    truth[4] = 255
    for image in (None, picture()):
        out = visualize.error_map(prediction, truth, image=image).astype(int)
        red = (out[..., 0] - out[..., 1] > 100) & (out[..., 0] - out[..., 2] > 80)
        want = np.zeros(truth.shape, bool)
        want[2:4, 3:9] = True
        np.testing.assert_array_equal(red, want)


def test_legend_shows_every_colour_in_any_width():
    palette = np.array([(i * 7, 255 - i * 5, i * 11 % 256) for i in range(19)], np.uint8)
    names = [f"class number {i}" for i in range(19)]
    for width in (140, 500, 3000):
        out = visualize.legend(names, palette, width=width)
        assert out.shape[1] == width
        seen = {tuple(color) for color in out.reshape(-1, 3)}
        assert all(tuple(color) in seen for color in palette)


def test_sheet_places_tiles_in_a_grid():
    rows = [[np.full((50, 100, 3), 10 * (3 * i + j), np.uint8) for j in range(3)] for i in range(2)]
    out = visualize.sheet(rows, captions=["a", "b"], titles=["x", "y", "z"], heading="h", tile_width=60)
    assert out.shape[1] == visualize.sheet_width(3, 60) and out.dtype == np.uint8
    for i in range(2):
        for j in range(3):
            where = np.argwhere((out == 10 * (3 * i + j)).all(-1)) if i + j else None
            if where is not None:
                (y0, x0), (y1, x1) = where.min(0), where.max(0)
                assert x0 == visualize.GAP + j * (60 + visualize.GAP) and x1 - x0 == 59 and y1 - y0 == 29


def test_sheet_takes_tiles_of_other_sizes_and_empty_places():
    out = visualize.sheet([[picture(40, 30), None], [picture(10, 90), picture(33, 33)]], tile_width=64)
    assert out.shape[1] == visualize.sheet_width(2, 64)


def test_text_is_drawn_and_cut_at_the_edge():
    canvas = np.full((20, 60, 3), 255, np.uint8)
    width = visualize.write(canvas, "Ägypten 123", 2, 1, size=12)
    assert 40 < width < 120 and canvas.min() < 120
    before = canvas.copy()
    visualize.write(canvas, "outside", 200, 200, size=12)
    np.testing.assert_array_equal(canvas, before)


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


def test_flow_colours():
    """Middlebury: right is red, left is cyan, up is blue-violet, down is yellow; no motion is white, nan is black."""
    flow = np.array([[(1, 0), (-1, 0), (0, -1), (0, 1), (0, 0), (np.nan, 0)]], np.float32)
    right, left, up, down, still, unknown = visualize.flow_to_color(flow)[0].astype(int)
    assert right[0] == 255 and right[1:].max() < 30
    assert left[0] < 30 and left[2] > 220
    assert up[2] == 255 and up[1] < 30
    assert down[0] == 255 and down[1] > 200 and down[2] < 30
    assert (still == 255).all() and (unknown == 0).all()


def test_flow_is_paler_when_slower_and_darker_past_the_limit():
    flow = np.array([[(0.2, 0), (1, 0), (3, 0)]], np.float32)
    slow, full, over = visualize.flow_to_color(flow, max_motion=1.0)[0].astype(int)
    assert slow[1] > full[1] and over[0] < full[0]


def test_the_wheel_explains_the_colours():
    picture = visualize.wheel_legend(["right is this", "and no motion white"], size=64)
    assert picture.shape[0] == 64 and picture.shape[1] > 140
    directions = {(32, 60): (1, 0), (32, 3): (-1, 0), (60, 32): (0, 1), (3, 32): (0, -1)}
    for (y, x), vector in directions.items():
        color = visualize.flow_to_color(np.float32([[vector]]), max_motion=1.1)[0, 0].astype(int)
        assert np.abs(picture[y, x] - color).max() < 40
    assert (picture[31:33, 31:33] > 240).all() and (picture[0, 0] == 255).all() and (picture[:, 76:] < 100).any()


def test_pictures_need_no_pyplot(root):
    import subprocess
    import sys

    code = (
        "import numpy as np, sys; from segjax import visualize as v;"
        "v.confusion_plot(np.eye(2), ('a', 'b'));"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
