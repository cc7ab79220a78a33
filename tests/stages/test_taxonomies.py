"""Datasets of one taxonomy: what is scored of a network with more classes, and what can be trained on together."""

import csv
import dataclasses
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import parallel
from segjax.data import LabelMap, class_table, open_source
from segjax.data.joined import Joined, Subset
from segjax.data.resized import resize_image, resize_nearest
from segjax.errors import UserError
from segjax.metrics import iou_scores
from segjax.stages import evaluate, recipe, run_recipe, train
from segjax.stages.dataset import read_dataset
from segjax.stages.extra_data import check_classes, log_absent, open_extras, read_extras
from segjax.stages.own_classes import compared_classes
from tests import stand_in
from tests.data.fake_source import FakeSource
from tests.stages import teacher

ROB = LabelMap(class_table("rob_bdd100k"))
STREET = dict(name="synthetic_street", options=teacher.STREET, train="train", test="test")


TRAIN = dict(
    kind="train", batch_size=2, crop=dict(size=(32, 48)), total_steps=1, eval_steps=1, model=dict(name="fastscnn"),
    loss=dict(main=dict(name="cross_entropy")), optimizer=dict(name="sgd", lr=0.1),
)  # fmt: skip


def dataset(street_dir, **more):
    return dict(STREET, data_dir=str(street_dir), **more)


def network(label_map):
    """Chooses the class of the nearest colour, exactly."""

    def logits(variables, images):
        return -jnp.square(jnp.round(255 * images)[..., None, :] - variables).sum(-1)

    return stand_in.network(logits, label_map, jnp.asarray(label_map.palette, jnp.float32))


@pytest.fixture
def scored(street_dir, tmp_path, monkeypatch):
    """Scores the teacher, whose classes are those of a label map, on the test split."""

    def score(label_map, *, size=None, **section):
        monkeypatch.setattr(evaluate, "open_network", lambda path, **options: network(label_map))
        stage = dict(kind="evaluate", checkpoint=str(tmp_path), split="test", mesh=dict(data=1), worst=1, **section)
        config = ConfigDict(dict(seed=0, stages=("evaluate",), dataset=size, evaluate=stage))
        return run_recipe(config, workdir=tmp_path / "run", only="evaluate")["evaluate"]

    return score


def expected(street_dir, classes, *, factor=1.0, label_map="", palette=ROB.palette):
    """The confusion matrix (k, k) of the nearest colour among the first k classes, over the test split."""
    source = open_source(
        "synthetic_street", "test", data_dir=street_dir, builder_options=teacher.STREET, label_map=label_map or None
    )
    matrix = np.zeros((classes, classes))
    for record in source:
        size = tuple(int(side * factor) for side in record.label.shape)
        image, label = resize_image(record.image, size), resize_nearest(record.label, size)
        found = np.square(image[..., None, :].astype(int) - palette[:classes]).sum(-1).argmin(-1)
        np.add.at(matrix, (label[label < 255], found[label < 255]), 1)
    return matrix


def test_a_class_that_the_dataset_lacks_costs_points_only_among_all_classes(scored, street_dir, tmp_path):
    section = dict(size=dataset(street_dir, label_map="rob_bdd100k"))
    every = scored(ROB, **section)
    own = scored(ROB, classes="own", **section)
    for report, k in ((every, 39), (own, 19)):
        want = iou_scores(expected(street_dir, k))
        assert report["miou"] == pytest.approx(want["miou"])
        assert report["pixel_accuracy"] == pytest.approx(want["pixel_accuracy"])
    assert own["miou"] > 1.5 * every["miou"]
    assert tuple(own["iou"]) == class_table("cityscapes").names
    rows = list(csv.reader((tmp_path / "run" / "evaluate" / "confusion.csv").open()))
    assert len(rows) == 20 and rows[0][1:] == list(own["iou"])
    with pytest.raises(UserError, match="config key evaluate.classes='ours' is not known"):
        scored(ROB, classes="ours", **section)
    for wrong in ("ours", ["road"]):
        with pytest.raises(UserError, match="config key train.eval_classes=.* is not known. Choose one of: all, own"):
            train.STAGE.read(dict(TRAIN, eval_classes=wrong), "train")
    with pytest.raises(UserError, match="knows 39 classes but the dataset synthetic_street has 19.*dataset.label_map"):
        scored(ROB, classes="own", size=dataset(street_dir))


@pytest.mark.parametrize("which, classes", [("own", 19), ("all", 39)])
def test_a_training_compares_the_classes_of_its_validation_split(which, classes, street_dir):
    section = dict(TRAIN, normalisation="none", eval_classes=which)
    options, teaching = train.STAGE.read(section, "train"), network(ROB)
    own = read_dataset(dataset(street_dir, label_map="rob_bdd100k", validation="test"), "dataset")
    held_out, compared = compared_classes(options.eval_classes, own, train.open_held_out(options, own), "validation")
    mesh = parallel.make_mesh(dict(data=1), jax.devices()[:1])
    score = train.make_score(options, held_out, compared, teaching.module, mesh)
    found = score(SimpleNamespace(best_variables=teaching.variables), lambda images: None)
    assert found["miou"] == pytest.approx(iou_scores(expected(street_dir, classes))["miou"])


def test_half_the_size_and_the_classes_of_camvid(scored, street_dir):
    camvid = LabelMap(class_table("camvid"))
    name = "synthetic_street_to_camvid"
    report = scored(camvid, size=dataset(street_dir, label_map=name, resize=0.5), classes="own", boundary=True)
    want = iou_scores(expected(street_dir, 11, factor=0.5, label_map=name, palette=camvid.palette))
    assert report["miou"] == pytest.approx(want["miou"])
    assert list(report["iou"]) == list(camvid.class_names)
    with pytest.raises(UserError, match="dataset.resize makes other images than those .* benchmark='bdd100k' scores"):
        scored(camvid, size=dataset(street_dir, resize=0.5), benchmark="bdd100k")


def test_own_classes_of_sources_and_maps(street_dir):
    def opened(label_map):
        options = dict(data_dir=street_dir, builder_options=teacher.STREET)
        return open_source("synthetic_street", "test", label_map=label_map, **options)

    street = opened("rob_bdd100k")
    assert street.own_classes == tuple(range(19)) and street.num_classes == 39
    assert Subset(street, np.array([0])).own_classes == street.own_classes
    indoor = type("Indoor", (FakeSource,), dict(class_names=street.class_names, own_classes=(0, *range(19, 39))))
    assert Joined([street, indoor()]).own_classes == tuple(range(39))
    assert opened("synthetic_street_to_camvid").own_classes == tuple(range(11))
    few = ROB.only((2, 25, 0))
    assert few.class_names == (ROB.class_names[2], ROB.class_names[25], ROB.class_names[0])
    assert few.table.ids == {2: 0, ROB.table.classes[25].id: 1, 0: 2, 255: 255}


COMMON = read_dataset(dict(name="cityscapes", label_map="rob_cityscapes"), "dataset")


@pytest.mark.parametrize(
    "part, message",
    [
        (dict(name="kitti"), "dataset.label_map='': kitti lacks 20 of the common 39 classes .wall, floor, cabinet"),
        (dict(name="scannet", label_map="scannet"), "scannet lacks 19 of the common 39 classes .road, sidewalk"),
        (
            dict(name="camvid"),
            "camvid lacks 33 .*; give a map onto the classes of the training, with an id that no mask",
        ),
        (dict(name="segmentation_folder", options=dict(label_map="voc2012")), "segmentation_folder lacks"),
        (dict(name="kitti", label_map="rob_kiti"), "label map 'rob_kiti' is neither .* Did you mean 'rob_kitti'"),
    ],
)
def test_extra_data_of_other_classes_is_found_before_any_data_is_read(part, message):
    with pytest.raises(UserError, match=message):
        check_classes(read_extras(dict(more=dict(split="train", dataset=part)), "train.extra"), COMMON)


def test_extra_data_of_the_same_taxonomy_is_accepted():
    """Also a dataset of which the classes are not known yet, and the training's own."""
    extra = {
        name: dict(split="train", dataset=dict(name=name, label_map=f"rob_{name}")) for name in ("kitti", "scannet")
    }
    extra |= dict(later=dict(split="pseudo", dataset=dict(name="propagate")), own=dict(split="train_extra"))
    check_classes(read_extras(extra, "train.extra"), COMMON)
    check_classes(read_extras(extra, "train.extra"), read_dataset(dict(name="propagate"), "dataset"))


def test_classes_that_are_known_before_a_dataset_is_opened(street_dir):
    def names(**section):
        return read_dataset(section, "dataset").class_names()

    city = class_table("cityscapes").names
    assert names(name="kitti") == names(**dataset(street_dir)) == city
    assert names(name="camvid", options=dict(config="full")) == class_table("camvid").names
    assert names(name="segmentation_folder", options=dict(label_map="voc2012")) == class_table("voc2012").names
    assert names(name="mapillary", label_map="mapillary_to_cityscapes") == city
    source = read_dataset(dataset(street_dir), "dataset").open("test")
    assert names(name=str(source.directory)) == city  # a folder, as of a dataset that was built elsewhere
    assert names(name="a stage") == names(name="segmentation_folder") == ()


def test_no_stage_runs_before_the_classes_are_compared(monkeypatch, tmp_path, street_dir):
    ran = []
    stage = dataclasses.replace(recipe.STAGES["evaluate"], run=lambda options, context: ran.append(1) or {})
    monkeypatch.setitem(recipe.STAGES, "evaluate", stage)
    student = dict(TRAIN, extra=dict(more=dict(split="train", dataset=dict(name="camvid"))))
    first = dict(kind="evaluate", checkpoint=str(tmp_path), split="test")
    config = ConfigDict(
        dict(seed=0, stages=("first", "train"), dataset=dataset(street_dir), first=first, train=student)
    )
    with pytest.raises(UserError, match="train.extra.more.dataset.label_map='': camvid lacks"):
        run_recipe(config, workdir=tmp_path)
    assert not ran
    assert run_recipe(config, workdir=tmp_path, only="first") and ran == [1]  # a stage that does not run is not checked


def test_classes_without_labels_are_named_in_the_log(street_dir, caplog):
    context = SimpleNamespace(dataset=None)
    own = read_dataset(dataset(street_dir, label_map="rob_bdd100k"), "dataset")
    extra = dict(more=dict(split="test", dataset=dataset(street_dir, label_map="rob_bdd100k"), times=3))
    with caplog.at_level(logging.INFO, "segjax"):
        joined, (found,) = open_extras(read_extras(extra, "train.extra"), own.open("train"), context, own)
    assert found.times == 3 and found.in_epoch and joined.num_classes == 39
    lines = [record.getMessage() for record in caplog.records]
    assert [line[:50] for line in lines[:2]] == [
        "the split has no labels of 20 of the 39 classes: w", "more has no labels of 20 of the 39 classes: wall, "
    ]  # fmt: skip
    assert (
        lines[2].startswith("no part of the training has labels of wall, floor,")
        and caplog.records[2].levelname == "WARNING"
    )
    caplog.clear()
    log_absent({"real": FakeSource(2)})
    assert not caplog.records
