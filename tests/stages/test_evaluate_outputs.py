"""Outputs of a network in the stage "evaluate" against numpy and OpenCV; an output that does not exist."""

import csv

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import augment
from segjax.data import open_source
from segjax.errors import UserError
from segjax.metrics import iou_scores
from segjax.stages import run_recipe
from tests import tiny_network
from tests.stages.test_stage import TRAIN
from tests.tiny_network import MAP, STREET, variables


def config(data_dir, stages=("evaluate",), **section):
    dataset = dict(name="synthetic_street", options=STREET, train="train", test="test", data_dir=str(data_dir))
    options = dict(kind="evaluate", checkpoint="train", split="test", batch_size=4, mesh=dict(data=1))
    return ConfigDict(dict(seed=0, stages=stages, dataset=dataset, train=TRAIN, evaluate={**options, **section}))


def oracle(found, images):
    """Logits and the resized auxiliary logits of `Tiny` as it is evaluated, in float64."""
    params, stats = jax.tree.map(lambda x: np.asarray(x, np.float64), (found["params"], found["batch_stats"]))
    mean, std = (np.array(x, np.float64) for x in augment.normalisation("imagenet"))

    def norm(name, x):
        own, norm = stats[name], params[name]
        return (x - own["mean"]) / np.sqrt(own["var"] + 1e-5) * norm["scale"] + norm["bias"]

    x = (images / 255.0 - mean) / std
    x = np.maximum(norm("norm1", x @ params["first"]["kernel"][0, 0]), 0) @ params["second"]["kernel"][0, 0]
    x = np.maximum(norm("norm2", x) + norm("norm_mean", x.mean((1, 2), keepdims=True)), 0)
    heads = {name: params[name]["kernel"][0, 0] for name in ("head", "aux_head")}
    logits = x @ heads["head"] + params["head"]["bias"]
    low = x[:, ::8, ::8] @ heads["aux_head"] + params["aux_head"]["bias"]
    size = images.shape[2:0:-1]
    planes = [
        [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in one.transpose(2, 0, 1)] for one in low
    ]
    return {"logits": logits, "aux8": np.array(planes).transpose(0, 2, 3, 1)}


def test_scores_and_pictures_of_each_output(tmp_path, street_dir, monkeypatch):
    tiny_network.register(monkeypatch)
    tiny_network.save(tmp_path / "train/checkpoints")
    source = open_source("synthetic_street", "test", data_dir=street_dir, builder_options=STREET)
    images, labels = (np.stack([getattr(source[i], name) for i in range(len(source))]) for name in ("image", "label"))
    report = run_recipe(config(street_dir, outputs="all", worst=1, best=1), workdir=tmp_path)["evaluate"]
    assert list(report["outputs"]) == ["aux8", "logits"]
    k, valid = MAP.num_classes, labels != 255
    for name, logits in oracle(variables(), images).items():
        pairs = labels[valid].astype(int) * k + logits.argmax(-1)[valid]
        expected = iou_scores(np.bincount(pairs, minlength=k * k).reshape(k, k))["miou"]
        assert report["outputs"][name]["miou"] == pytest.approx(expected, abs=2e-4), name
    assert report["miou"] == report["outputs"]["logits"]["miou"] != report["outputs"]["aux8"]["miou"]
    folder = tmp_path / "evaluate"
    rows = {row["output"]: row for row in csv.DictReader((folder / "outputs.csv").open())}
    assert float(rows["aux8"]["miou"]) == pytest.approx(report["outputs"]["aux8"]["miou"], abs=1e-6)
    for name in ("outputs.png", "outputs_images.png", "best_beside_worst.png"):
        assert cv2.imread(str(folder / name)) is not None


def test_an_output_that_does_not_exist_is_found_before_the_training(tmp_path, street_dir, monkeypatch):
    monkeypatch.setattr("segjax.stages.train.run_training", None)
    settings = config(street_dir, ("train", "evaluate"), outputs=("aux1",))
    settings.train.model.options = dict(aux=True)
    with pytest.raises(UserError) as error:
        run_recipe(settings, workdir=tmp_path)
    assert str(error.value) == (
        "config key evaluate.outputs names 'aux1', which the network in train does not have. Did you mean 'aux'?"
    )
