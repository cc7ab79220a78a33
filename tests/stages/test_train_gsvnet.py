"""The stage "train_gsvnet" on the synthetic street: what it writes, keeps and resumes, and what it refuses."""

import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import models
from segjax.errors import UserError
from segjax.inference.network import open_network
from segjax.stages import run_recipe
from segjax.weights.runs import export_weights, load_for_inference
from tests import tiny_network
from tests.media.test_feeds import write_video

STREET = dict(height=32, width=64, train=2, validation=1, test=1, frames=6, labelled_every=1)
CAMVID = dict(name="synthetic_street", options=STREET, train="train", label_map="synthetic_street_to_camvid")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    tiny_network.register(monkeypatch)


def recipe(street_dir, **changes):
    dataset = dict(
        name="synthetic_street", options=STREET, train="train", validation="validation", data_dir=str(street_dir)
    )
    stage = dict(
        kind="train_gsvnet",
        keyframe=dict(checkpoint="train", scale=0.5),
        batch_size=2,
        crop=dict(size=(24, 48)),
        scales=(0.75, 1.5),
        intervals=(1, 2),
        model=dict(name="gsvnet", options=dict(stride=4)),
        loss=dict(main=dict(name="cross_entropy"), teacher=dict(name="distillation", weight=100.0)),
        optimizer=dict(name="sgd", lr=1e-3),
        augment=dict(flip=0.4),
        mesh=dict(data=1),
        loader=dict(num_threads=2),
        total_steps=6,
        checkpoint_steps=2,
        eval_steps=3,
        log_steps=1,
    )
    stage.update(changes)
    return ConfigDict(dict(seed=0, stages=("train_gsvnet",), dataset=dataset, train_gsvnet=stage))


def run(config, workdir):
    if not (workdir / "train").exists():
        tiny_network.save(workdir / "train/checkpoints")
    return run_recipe(config, workdir=workdir)["train_gsvnet"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, street_dir):
    patch = pytest.MonkeyPatch()
    tiny_network.register(patch)
    workdir = tmp_path_factory.mktemp("snippets")
    yield workdir, run(recipe(street_dir), workdir)
    patch.undo()


def test_report_log_and_checkpoint(finished):
    workdir, report = finished
    assert report["snippets"] == 8 and report["frames_without_snippet"]["count"] == 4
    assert [entry["step"] for entry in report["history"]] == [3, 6]
    assert set(report["validation"]) == {"step", "average_miou", "minimum_miou"}
    lines = [json.loads(line) for line in (workdir / "train_gsvnet/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 6 and all({"main", "teacher", "lr", "grad_norm"} <= set(line) for line in steps)
    assert report["keyframe"]["step"] == tiny_network.STEP and report["keyframe"]["scale"] == 0.5


def test_the_folder_alone_labels_a_video(finished, tmp_path):
    """It has the keyframe network too; so has a single file of exported weights."""
    workdir, _ = finished
    moved = tmp_path / "alone"
    shutil.copytree(workdir / "train_gsvnet", moved)
    spec, variables, info = load_for_inference(moved)
    assert spec["keyframe"] == {"spec": {**spec["keyframe"]["spec"], "name": "tiny"}, "scale": 0.5}
    tiny = tiny_network.variables()["params"]
    jax.tree.map(np.testing.assert_array_equal, dict(variables["params"]["keyframe"]), tiny)
    network = open_network(moved, kind="propagation")
    assert network.normalisation == "imagenet" and len(network.label_map.class_names) == 19
    frames = np.random.default_rng(0).normal(size=(1, 3, 32, 64, 3)).astype(np.float32)
    apply = jax.jit(network.module.apply)
    logits = apply(network.variables, frames)
    assert logits.shape == (1, 8, 16, 19) and network.module.scale == 0.5
    exported = open_network(export_weights(moved, tmp_path / "one.safetensors"), kind="propagation")
    assert exported.module == network.module
    np.testing.assert_array_equal(apply(exported.variables, frames), logits)
    with pytest.raises(UserError, match="holds gsvnet, which labels no image"):
        open_network(moved)
    (moved / "keyframe.safetensors").unlink()
    with pytest.raises(UserError, match="keyframe.safetensors is missing"):
        load_for_inference(moved)


def test_a_run_in_two_parts_gives_the_same_without_the_keyframes_run(finished, street_dir, tmp_path):
    run(recipe(street_dir, total_steps=3), tmp_path)
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train_gsvnet/report.json").unlink()
    assert run(recipe(street_dir), tmp_path)["history"] == finished[1]["history"]


def test_it_starts_from_another_training(finished, street_dir, tmp_path):
    workdir, _ = finished
    init = dict(checkpoint=str(workdir / "train_gsvnet"))
    run(recipe(street_dir, init=init, total_steps=1, optimizer=dict(name="sgd", lr=0.0)), tmp_path)
    one, two = (load_for_inference(path / "train_gsvnet")[1]["params"] for path in (workdir, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, one["propagation"], two["propagation"])


def test_a_video_without_labels_is_enough(street_dir, tmp_path):
    frames = str(write_video(tmp_path / "drive.mp4", count=5, size=(32, 64)))
    own = dict(frames=frames, labels="teacher", total_steps=2, eval_split="", intervals=(2,))
    report = run(recipe(street_dir, **own, split=""), tmp_path / "run")
    assert report["snippets"] == 3 and report["steps"] == 2 and not report["history"]
    report = run(recipe(street_dir, **own), tmp_path / "both")
    assert report["snippets"] == 3 + 8 and report["frames_without_snippet"]["count"] == 2 + 4


@pytest.mark.parametrize("name", ["warp", "a_lite"])
def test_baselines_train_too(name, street_dir, tmp_path, monkeypatch):
    options = dict(feature="low.logits", feature_channels=19) if name == "a_lite" else {}
    report = run(
        recipe(
            street_dir,
            model=dict(name=name, options=options),
            total_steps=2,
            order="mixed",
            labels="teacher",
            intervals=(2,),
            eval_split="",
        ),
        tmp_path,
    )
    assert np.isfinite(report["last_learning_rate"]) and report["steps"] == 2


@pytest.mark.parametrize(
    "changes, text",
    [
        (dict(model=dict(name="copy")), "'copy' has nothing to train"),
        (dict(intervals=(0, 1)), r"intervals=\(0, 1\) must list whole numbers of 1 or more"),
        (dict(order="block"), "order='block' must be blocks or mixed"),
        (dict(labels="true"), "labels='true' must be truth or teacher"),
        (dict(frames="drive.mp4"), "a video has no labels; set train_gsvnet.labels='teacher'"),
        (dict(split=""), "train_gsvnet has neither split nor frames"),
        (dict(scales=(0,)), "scales=.* must list factors above 0"),
        (dict(crop=dict(size=(24, 48), scale_range=(0.5, 2.0))), "write train_gsvnet.scales"),
        (dict(mesh=dict(data=1, space=2)), "splits the batch only"),
        (dict(loss=dict(main=dict(name="top_k_cross_entropy"))), "needs soft labels"),
        (dict(loss=dict(main=dict(name="cross_entropy", on="aux"))), "not an output of this network"),
        (dict(keyframe=dict(checkpoint="trian")), "'trian' is no path"),
        (dict(keyframe=dict(checkpoint="train", scales=1)), "keyframe.scales is not known"),
        (dict(model=dict(name="a_lite", options=dict(feature="up3"))), "'up3' of a_lite is not computed"),
        (dict(intervals=(6,)), "no labelled frame has 6 frames before it"),
        (dict(dataset=CAMVID), "the keyframe network has the classes"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, text, street_dir, tmp_path):
    if "dataset" in changes:
        changes = dict(dataset={**changes["dataset"], "data_dir": str(street_dir)})
    with pytest.raises(UserError, match=text):
        run(recipe(street_dir, **changes), tmp_path)


def test_a_keyframe_network_labels_images(finished, street_dir, tmp_path):
    workdir, _ = finished
    with pytest.raises(UserError, match="holds gsvnet"):
        run(recipe(street_dir, keyframe=dict(checkpoint=str(workdir / "train_gsvnet"))), tmp_path)


def test_a_loss_with_a_teacher_is_for_clips_only(street_dir, tmp_path):
    stage = dict(kind="train", batch_size=2, crop=dict(size=(24, 48)), model=dict(name="fastscnn"), total_steps=1)
    stage |= dict(loss=dict(main=dict(name="distillation")), optimizer=dict(name="sgd", lr=0.1))
    config = recipe(street_dir)
    config.stages, config.train = ("train",), ConfigDict(stage)
    with pytest.raises(UserError, match="compares with the keyframe network of a stage of kind train_gsvnet"):
        run_recipe(config, workdir=tmp_path)


def test_propagation_networks_are_no_image_networks():
    assert "gsvnet" not in models.names()
