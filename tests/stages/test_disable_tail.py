"""The stage "disable_tail" against numpy: a network without its last residuals, one program for all numbers."""

import csv

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from segjax import augment, models
from segjax.data import open_source
from segjax.errors import UserError
from segjax.metrics import iou_scores
from segjax.models.heads import seg_output
from segjax.models.layers import ImageNetwork, conv_and_norm
from segjax.stages import run_recipe
from segjax.stages.config import choices
from segjax.training.checkpoints import Checkpoints
from segjax.training.state import create_state
from tests.stages.test_stage import TRAIN
from tests.tiny_network import MAP, STREET

UNITS = ("layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1")
TRACES = []


class Residuals(ImageNetwork):
    """Five residuals of three blocks, on single pixels."""

    loss_weights = {"logits": 1.0}

    @nn.compact
    def __call__(self, images, train=False):
        TRACES.append(images.shape)
        conv, norm = conv_and_norm(self, train)
        x = conv(8, 1, name="stem")(images)
        for name in UNITS:
            x = x + norm(name=f"{name}.bn2")(conv(8, 1, name=f"{name}.conv2")(x))
        heads = {"logits": conv(self.num_classes, 1, use_bias=True, name="head")(x)}
        return seg_output(heads, {}, images.shape[1:3], align_corners=False)


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(Residuals(MAP.num_classes).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    found = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 1, x.shape), jnp.float32), dict(shapes))
    found["batch_stats"] = jax.tree.map(jnp.abs, found["batch_stats"])
    return found


def oracle(variables, images, labels, disabled):
    """Mean IoU without the last `disabled` residuals, in float64."""
    params, stats = jax.tree.map(lambda x: np.asarray(x, np.float64), (variables["params"], variables["batch_stats"]))
    mean, std = (np.array(x, np.float64) for x in augment.normalisation("imagenet"))
    x = (images / 255.0 - mean) / std @ params["stem"]["kernel"][0, 0]
    for name in UNITS[: len(UNITS) - disabled]:
        y = x @ params[f"{name}.conv2"]["kernel"][0, 0]
        own, norm = stats[f"{name}.bn2"], params[f"{name}.bn2"]
        x = x + (y - own["mean"]) / np.sqrt(own["var"] + 1e-5) * norm["scale"] + norm["bias"]
    ids = (x @ params["head"]["kernel"][0, 0] + params["head"]["bias"]).argmax(-1)
    k, valid = MAP.num_classes, labels != 255
    return iou_scores(np.bincount(labels[valid].astype(int) * k + ids[valid], minlength=k * k).reshape(k, k))["miou"]


def config(data_dir, stages=("disable_tail",), **section):
    dataset = dict(name="synthetic_street", options=STREET, train="train", test="test", data_dir=str(data_dir))
    options = dict(kind="disable_tail", checkpoint="a", split="test", batch_size=4, mesh=dict(data=1))
    train = {**TRAIN, "dataset": dataset}
    return ConfigDict(dict(seed=0, stages=stages, dataset=dataset, train=train, disable_tail={**options, **section}))


def save(folder, variables):
    spec = {"name": "residuals", "num_classes": MAP.num_classes, "options": {}}
    meta = {"model": spec, "normalisation": "imagenet", "label_map": MAP.to_dict()}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(create_state(variables, optax.sgd(0.1), ema=False), step=0, meta=meta)


@pytest.fixture(autouse=True)
def _residuals(monkeypatch):
    monkeypatch.setitem(models.MODELS, "residuals", Residuals)


def test_scores_without_the_last_units(tmp_path, street_dir):
    source = open_source("synthetic_street", "test", data_dir=street_dir, builder_options=STREET)
    images, labels = (np.stack([getattr(source[i], name) for i in range(len(source))]) for name in ("image", "label"))
    networks = {"a": drawn(0), "b": drawn(1)}
    for name, variables in networks.items():
        save(tmp_path / name / "checkpoints", variables)
    TRACES.clear()
    checkpoints = dict(a="a", b="b")
    report = run_recipe(config(street_dir, checkpoint=checkpoints), workdir=tmp_path)["disable_tail"]
    at_full_size = [shape for shape in TRACES if shape[1:3] == (32, 48)]
    assert len(at_full_size) <= 2 * len(networks), "the number of disabled units compiles nothing"
    folder = tmp_path / "disable_tail"
    rows = list(csv.DictReader((folder / "tail.csv").open()))
    assert len(rows) == 10 and report["images"] == len(images)
    for name, variables in networks.items():
        found = report["networks"][name]
        assert found["units"] == 4 and list(found["disabled"]) == ["0", "1", "2", "3", "4"]
        for disabled, one in found["disabled"].items():
            assert one["miou"] == pytest.approx(oracle(variables, images, labels, int(disabled)), abs=2e-4)
            assert one["share"] == int(disabled) / 4 and set(one["iou"]) == set(MAP.class_names)
        assert len({one["miou"] for one in found["disabled"].values()}) == 5
    assert float(rows[1]["miou"]) == pytest.approx(report["networks"]["a"]["disabled"]["1"]["miou"], abs=1e-6)
    for picture in ("tail.png", "classes_a.png", "classes_b.png"):
        assert cv2.imread(str(folder / picture)) is not None


def test_what_is_refused_before_the_training_of_a_network_that_is_recalibrated(tmp_path, street_dir, monkeypatch):
    monkeypatch.setattr("segjax.stages.train.run_training", None)
    settings = config(street_dir, ("train", "better", "disable_tail"), checkpoint="better", units=(0, 9))
    settings.better = dict(kind="recalibrate", checkpoint="train")
    with pytest.raises(UserError, match="FastSCNN has a trunk whose units are not known"):
        run_recipe(settings, workdir=tmp_path)
    settings.train.model.name = "residuals"
    monkeypatch.setitem(choices._MODELS, "residuals", set())
    with pytest.raises(
        UserError, match=r"disable_tail.units=\(0, 9\) disables 9 units, but .* of the network in better"
    ):
        run_recipe(settings, workdir=tmp_path)
