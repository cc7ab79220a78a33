"""The stage "evaluate_video" on the synthetic street: rows, files, numbers of single stages, and what it refuses."""

import csv

import jax
import pytest
from ml_collections import ConfigDict

from segjax.data.image_files import read_image
from segjax.errors import UserError
from segjax.stages import run_recipe
from tests import tiny_network
from tests.stages.test_train_gsvnet import recipe

LONGEST = 3


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    tiny_network.register(monkeypatch)


def with_evaluation(street_dir, **changes):
    few = dict(total_steps=2, intervals=(2,), eval_split="")
    config = recipe(street_dir, **few, loss=dict(main=dict(name="cross_entropy")))
    stage = dict(kind="evaluate_video", checkpoint="train_gsvnet", split="train", interval=LONGEST, batch_size=2)
    stage |= dict(consistency="exact", timed=4, pictures=2, edges=True, scales=(1.0, 0.5), mesh=dict(data=1))
    config.evaluate_video = ConfigDict({**stage, **changes})
    config.stages = (*config.stages, "evaluate_video")
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, street_dir):
    patch = pytest.MonkeyPatch()
    tiny_network.register(patch)
    # tiny is no network whose cost is counted by name alone
    workdir = tmp_path_factory.mktemp("video")
    tiny_network.save(workdir / "train/checkpoints")
    config = with_evaluation(street_dir, others=dict(again="train_gsvnet"))
    yield workdir, run_recipe(config, workdir=workdir)["evaluate_video"]
    patch.undo()


def rows(report, system):
    return [row for row in report["rows"] if row["system"] == system]


def test_every_system_has_a_row_for_each_interval(finished):
    _, report = finished
    alone = ["every frame at 1", "every frame at 0.5", "every frame, coarse grid"]
    carried = ["copy", "warp", "warp_dis", "gsvnet", "again"]
    assert list(report["systems"]) == [*alone, *carried] and report["snippets"] == 2 * (6 - LONGEST + 1)
    assert all([row["interval"] for row in rows(report, name)] == [1, 2, 3] for name in carried)
    assert all([row["interval"] for row in rows(report, name)] == [None] for name in alone)
    for one, two in zip(rows(report, "gsvnet"), rows(report, "again")):
        assert {key: one[key] for key in ("average", "minimum")} == {key: two[key] for key in ("average", "minimum")}


def test_a_keyframe_is_a_keyframe_in_all_systems(finished):
    """At interval 1 all systems are the keyframe network through the grid; its average is its minimum."""
    _, report = finished
    (grid,) = rows(report, "every frame, coarse grid")
    for name in ("copy", "warp", "warp_dis", "gsvnet"):
        first, *later = rows(report, name)
        assert first["average"] == first["minimum"] == grid["average"]
        assert first["multiply_adds"] == grid["multiply_adds"]
    key, two, three = (row["multiply_adds"] for row in rows(report, "gsvnet"))
    assert 2 * two - key == pytest.approx(3 * three - 2 * two) and 2 * two - key > 0  # a frame between keyframes
    assert rows(report, "warp_dis")[1]["multiply_adds"] is None


def test_steadiness_and_times(finished):
    _, report = finished
    assert 0.9 < report["truth_steady"] <= 1  # the flow is exact
    for name in ("copy", "warp", "gsvnet"):
        assert all(0 < row["consistency"] <= 1 for row in rows(report, name))
        times = report["systems"][name]["times"]
        assert {"key", "between", "frame", "with_drawing", "frames"} == set(times) and times["frames"] == 4
        assert all(0 < times[kind]["p50"] <= times[kind]["p95"] for kind in ("key", "between", "frame"))
    (half,) = rows(report, "every frame at 0.5")
    assert half["key_ms"] == half["frame_ms"] > 0 and half["series"] == "every frame"
    assert "key_ms" not in rows(report, "every frame, coarse grid")[0]  # no stream is labelled so
    found = report["systems"]["gsvnet"]
    assert len(found["iou"]) == LONGEST and list(found["intervals"]) == ["1", "2", "3"]
    assert found["intervals"]["3"]["minimum"] == rows(report, "gsvnet")[2]["minimum"]


def test_files(finished):
    workdir, report = finished
    folder = workdir / "evaluate_video"
    with open(folder / "table.csv") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(report["rows"]) and found[0]["system"] == "every frame at 1"
    text = (folder / "table.md").read_text()
    (bound,) = report["grid_bounds"].values()
    assert rows(report, "every frame, coarse grid")[0]["average"] < bound["miou"] < 1
    assert f"and enlarged: {100 * bound['miou']:.1f} mIoU" in text
    assert "| gsvnet | 3 |" in text and "Steady: share of pixels" in text and "(exact)" in text
    assert read_image(folder / "sheet.png").shape[1] > 2000 and read_image(folder / "intervals.png").ndim == 3
    assert read_image(folder / "speed.png").ndim == 3
    assert read_image(folder / "edges_gsvnet.png").ndim == 3 and not (folder / "edges_warp.png").exists()
    edges = report["systems"]["gsvnet"]["edges"]
    assert "edges" not in report["systems"]["warp"] and 0 < edges["share"] < 1
    assert f"{100 * edges['errors_at_edges']:.1f} % of the errors" in text


def test_the_bound_is_of_the_frames_that_are_scored(finished, street_dir):
    workdir, report = finished
    limited = with_evaluation(street_dir, limit=2, baselines=(), timed=0, pictures=0, consistency="")
    limited.stages, limited.third = ("train_gsvnet", "third"), limited.evaluate_video
    found = run_recipe(limited, workdir=workdir, only="third")["third"]
    assert found["grid_bounds"] != report["grid_bounds"] and report["snippets"] > 2


def test_another_keyframe_network(finished, street_dir):
    workdir, report = finished
    other = jax.tree.map(lambda x: x * 0, tiny_network.variables())
    tiny_network.save(workdir / "other/checkpoints", averaged=other)
    config = with_evaluation(street_dir, keyframe="other", baselines=("copy",), timed=0, pictures=0, consistency="")
    config.stages = ("train_gsvnet", "second")
    config.second = config.evaluate_video
    found = run_recipe(config, workdir=workdir, only="second")["second"]
    assert rows(found, "copy")[0]["average"] != rows(report, "copy")[0]["average"]
    assert "consistency" not in found["rows"][0] or found["rows"][0]["consistency"] is None


@pytest.mark.parametrize(
    "changes, text",
    [
        (dict(interval=0), "interval=0 must be a whole number, 1 or more"),
        (dict(consistency="flow"), "consistency='flow' must be exact, dis or empty"),
        (dict(scales=()), "must list factors above 0"),
        (dict(baselines=("every", "cpoy")), "baselines: 'cpoy' is not known. Did you mean 'copy'"),
        (dict(checkpoint="train"), "holds tiny, which labels no video from keyframes"),
        (dict(interval=9), "no labelled frame has 8 frames before it"),
        (dict(others=dict(a="b")), "others.a='b' is no path"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, text, finished, street_dir, tmp_path):
    workdir, _ = finished
    config = with_evaluation(street_dir, **{"checkpoint": str(workdir / "train_gsvnet"), **changes})
    config.stages = ("evaluate_video",)
    tiny_network.save(tmp_path / "train/checkpoints")
    with pytest.raises(UserError, match=text):
        run_recipe(config, workdir=tmp_path)


def test_one_core_is_told_before_the_first_stage_runs(monkeypatch, tmp_path, street_dir):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    tiny_network.save(tmp_path / "train/checkpoints")
    with pytest.raises(UserError, match="warp_dis .* has one core; set NPROC=2"):
        run_recipe(with_evaluation(street_dir), workdir=tmp_path)
    assert not (tmp_path / "train_gsvnet").exists()
