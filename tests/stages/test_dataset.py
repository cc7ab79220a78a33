"""The dataset of a stage: one that an earlier stage of the run writes is named by that stage."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import models, parallel
from segjax.data.plans import Extra
from segjax.errors import UserError
from segjax.stages import recipe, run_recipe, train
from segjax.stages.config import choices
from segjax.stages.dataset import Dataset, datasets_of, read_dataset, read_own_dataset, with_folders
from segjax.stages.record_lists import write_record_lists
from segjax.stages.stage import Context, no_check, no_inputs
from tests.networks import documented_network

STREET = dict(height=48, width=64, train=2, validation=1, test=1, frames=4, labelled_every=2)


@dataclasses.dataclass(frozen=True)
class Options:
    settings: dict
    parts: tuple = ()
    by_name: dict = dataclasses.field(default_factory=dict)
    dataset: Dataset | None = None


def test_datasets_are_found_and_placed_however_deep_they_lie():
    camvid, stage, other = (read_dataset(dict(name=name), name) for name in ("camvid", "propagate", "later"))
    options = Options({}, (Options({}, dataset=stage), camvid), {"a": [other], "b": 3}, camvid)
    assert [one.name for one in datasets_of(options)] == ["propagate", "camvid", "later", "camvid"]
    assert with_folders(options, {}) is options
    placed = with_folders(options, {"propagate": Path("run/propagate/dataset"), "camvid": Path("run/camvid/dataset")})
    assert placed.parts[0].dataset == dataclasses.replace(stage, folder=Path("run/propagate/dataset"))
    # the builder's name stays the builder's, and nothing else changes
    assert placed == dataclasses.replace(options, parts=(placed.parts[0], camvid)) and placed.by_name is options.by_name
    with pytest.raises(UserError, match="config key propagate.name: .*dataset holds no dataset of a stage; run the"):
        placed.parts[0].dataset.open("jp")


@pytest.fixture
def ran(monkeypatch):
    """(stage, folder of its dataset) of the stages that ran; the stages do nothing, and every run is a second later."""
    ran = []

    def run(options, context):
        ran.append((context.name, (options.dataset or context.dataset).folder))
        return {}

    def read(settings, where):
        parts = tuple(read_dataset(one, f"{where}.extra.dataset") for one in settings.get("extra", ()))
        return Options(settings, parts, dataset=read_own_dataset(settings, where))

    for kind in ("train", "propagate", "evaluate"):
        stage = dataclasses.replace(recipe.STAGES[kind], read=read, run=run, inputs=no_inputs, check=no_check)
        monkeypatch.setitem(recipe.STAGES, kind, stage)
    monkeypatch.setattr(recipe.time, "strftime", lambda text: f"2030-01-01 00:00:{len(ran):02d}")
    return ran


def config(dataset="camvid", **changes):
    """Stages write (a dataset) -> train -> evaluate; changes: of their sections."""
    kinds = dict(write="propagate", train="train", evaluate="evaluate")
    sections = {name: {"kind": kind, **changes.get(name, {})} for name, kind in kinds.items()}
    return ConfigDict(dict(seed=0, stages=tuple(kinds), dataset=dict(name=dataset), **sections))


def test_a_stage_reads_what_an_earlier_one_has_written(ran, tmp_path):
    own = config(train=dict(dataset=dict(name="write", train="jp")))
    reports = run_recipe(own, workdir=tmp_path)
    assert ran == [("write", None), ("train", tmp_path / "write" / "dataset"), ("evaluate", None)]
    # the folder of the run is no setting, so that the run can be moved
    assert str(tmp_path) not in json.dumps(reports["train"]["settings"])
    run_recipe(own, workdir=tmp_path)
    assert len(ran) == 3
    shared = config("write", write=dict(dataset=dict(name="camvid")))
    run_recipe(shared, workdir=tmp_path / "shared")
    folder = tmp_path / "shared" / "write" / "dataset"
    assert ran[3:] == [("write", None), ("train", folder), ("evaluate", folder)]


@pytest.mark.parametrize("section", ["dataset", "extra", "shared"])
def test_what_was_trained_on_an_older_set_is_no_longer_done(ran, tmp_path, section):
    settings = config(
        "write" if section == "shared" else "camvid",
        write=dict(dataset=dict(name="camvid")),
        train={"dataset": dict(dataset=dict(name="write")), "extra": dict(extra=[dict(name="write")])}.get(section, {}),
    )
    run_recipe(settings, workdir=tmp_path)
    (tmp_path / "write" / "report.json").unlink()
    with pytest.raises(
        UserError, match="finished with what stage 'write' gave before it was run again; delete .*train"
    ):
        run_recipe(settings, workdir=tmp_path)
    assert len(ran) == 3


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            dict(dataset="wriet"),
            "config key dataset.name='wriet' is no dataset, .* no stage before 'write' that writes",
        ),
        (dict(train=dict(dataset=dict(name="wriet"))), "train.dataset.name='wriet' is no .* Did you mean 'write'"),
        (dict(train=dict(dataset=dict(name="camvdi"))), "no stage before 'train' .* Did you mean 'camvid'"),
        (dict(train=dict(extra=[dict(name="wriet")])), "key train.extra.dataset.name='wriet' is no dataset"),
        (dict(dataset="write"), "dataset.name='write': this stage does not run before stage 'write'; name another"),
        (dict(write=dict(dataset=dict(name="train"))), "this stage is of kind train and writes no dataset for stage"),
        (
            dict(train=dict(dataset=dict(name="write", options=dict(height=3)))),
            "train.dataset.name='write' is a stage, whose dataset takes no options; remove train.dataset.options",
        ),
        (
            dict(train=dict(dataset=dict(name="write", data_dir="/data"))),
            "takes no data_dir; remove train.dataset.data",
        ),
    ],
)
def test_a_dataset_that_nobody_writes_is_found_before_the_first_stage(ran, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        run_recipe(config(**settings), workdir=tmp_path)
    assert ran == []


def test_a_list_of_records_per_part(tmp_path):
    real, more = SimpleNamespace(names=["a", "b"]), SimpleNamespace(names=["c"])
    write_record_lists(tmp_path, real, [Extra("/runs/x", more, 2), Extra("coarse", more, 3)])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "records-real.txt": "a\nb\n", "records-runs-x.txt": "c\n", "records-coarse.txt": "c\n",
    }  # fmt: skip


def test_a_training_reads_each_dataset_at_its_own_size(street_dir, tmp_path):
    """Half the size for the split, a width for a part: windows, places, samples, epochs and the validation split."""
    street = dict(name="synthetic_street", options=STREET, data_dir=str(street_dir), validation="validation")
    settings = dict(
        kind="train", batch_size=2, crop=dict(size=(16, 16), scale_range=(0.8, 1.0)), total_steps=1, eval_steps=1,
        sampler=dict(kind="uniform", times=2), model=dict(name="fastscnn"), loss=dict(main=dict(name="cross_entropy")),
        optimizer=dict(name="sgd", lr=0.01), mesh=dict(data=1),
        extra=dict(
            wide=dict(split="test", dataset=dict(street, resize=dict(width=96)), times=3),
            same=dict(split="test", in_epoch=True),
        ),
    )  # fmt: skip
    dataset = read_dataset(dict(street, resize=0.5), "dataset")
    options = train.STAGE.read(settings, "train")
    context = Context("train", tmp_path, tmp_path / "train", 0, dataset)
    real, samples, extras, plan = train.open_training(options, context, parallel.make_mesh(options.mesh))
    assert {tuple(size) for size in real.sizes.tolist()} == {(24, 32)}
    assert [tuple(extra.source.sizes[0].tolist()) for extra in extras] == [(72, 96), (24, 32)]
    n, m = len(real), len(extras[0].source)
    assert np.bincount(plan.epochs.build(0).records).tolist() == [2] * n + [3] * m + [1] * m
    (bucket,) = plan.timeline.buckets
    assert samples.window(bucket) == (20, 20)
    sample = samples.read(n, np.array([70, 95]), bucket, np.random.default_rng(0))  # a place of the larger images
    assert sample["image"].shape == (20, 20, 3) and tuple(sample["extent"]) == (0, 0, 20, 20)
    assert train.open_held_out(options, dataset)[0].label.shape == (24, 32)
    assert str(dataset) == "synthetic_street (resized by 0.5)" and dataset.settings["resize"] == 0.5


def test_a_training_on_propagated_labels_alone(street_dir, tmp_path, monkeypatch):
    """The stages themselves: written, named as a dataset with its own splits, trained on, and listed."""
    monkeypatch.setitem(models.MODELS, "tiny", documented_network())
    monkeypatch.setitem(choices._MODELS, "tiny", set(models.options("tiny")))
    flow = dict(method="flow", flow="dis", steps=1, batch_size=4, cut_histogram=0.0, sheet_rows=0)
    training = dict(
        kind="train",
        dataset=dict(name="propagate", train="jp@3,seed=1+lp::2,first=0"),
        batch_size=2,
        crop=dict(size=(32, 48)),
        model=dict(name="tiny"),
        loss=dict(main=dict(name="cross_entropy")),
        optimizer=dict(name="sgd", lr=0.01),
        mesh=dict(data=1),
        total_steps=1,
    )
    dataset = dict(name="synthetic_street", options=STREET, data_dir=str(street_dir))
    stages = dict(propagate=dict(kind="propagate", **flow), train=training)
    reports = run_recipe(ConfigDict(dict(seed=0, stages=tuple(stages), dataset=dataset, **stages)), workdir=tmp_path)
    written = reports["propagate"]["records"]["jp"]
    listed = (tmp_path / "train" / "records-real.txt").read_text().splitlines()
    assert reports["train"]["steps"] == 1 and len(listed) == 3 + -(-written // 2)
    assert all(name[-2] in "+-" for name in listed)  # names of propagated records
