"""Chains of trainings: each stage starts from the one before, on the data set it names; the heads are swapped."""

from types import SimpleNamespace

import pytest

from configs import common
from segjax.data import class_table, dataset_names
from segjax.errors import UserError
from segjax.stages import build


@pytest.fixture(scope="module")
def transfer(root):
    return common.load(root / "configs" / "transfer.py")


@pytest.mark.parametrize("debug", ["", ",debug"])
@pytest.mark.parametrize("chain", ["mapillary+cityscapes+camvid", "mapillary19+cityscapes+kitti", "bdd100k", "camvid"])
def test_every_stage_starts_from_the_one_before(transfer, chain, debug):
    config, tasks = transfer.get_config(chain + debug), chain.split("+")
    trained = [name for name in config.stages if config[name].kind == "train"]
    assert trained == [*tasks[:-1], "train"]
    assert [config[name].init.checkpoint for name in trained] == ["", *trained[:-1]]
    assert {config[name].init.weights for name in trained[1:]} <= {""}
    for name in trained:
        evaluate = config["evaluate" if name == "train" else f"evaluate_{name}"]
        assert evaluate.checkpoint == name and evaluate.dataset == config[name].dataset
        assert config[name].dataset.name in dataset_names()
    if not debug:
        assert [config[name].dataset.name for name in trained] == [task.removesuffix("19") for task in tasks]


def test_where_the_data_and_the_first_weights_come_from(transfer):
    config = transfer.get_config("cityscapes+kitti,data=/data,start=runs/mapillary")
    assert config.cityscapes.init.checkpoint == "runs/mapillary" and config.cityscapes.init.weights == ""
    assert config.train.dataset.options.source_dir == "/data/kitti"
    assert transfer.get_config("mapillary19").dataset.label_map == "mapillary_to_cityscapes"
    with pytest.raises(ValueError, match="did you mean 'mapillary"):
        transfer.get_config("mapilary+cityscapes")
    with pytest.raises(ValueError, match="names a data set twice"):
        transfer.get_config("kitti+kitti")


def test_a_checkpoint_is_a_stage_of_the_run_or_a_path(tmp_path):
    context = SimpleNamespace(workdir=tmp_path, folder=tmp_path / "train")
    with pytest.raises(UserError, match="'mapillary' is neither a stage of .* nor a path; run it first"):
        build.run_init({"checkpoint": "mapillary"}, context)
    assert build.run_init({"checkpoint": str(tmp_path), "scope": "all"}, context)["checkpoint"] == str(tmp_path)
    (tmp_path / "mapillary").mkdir()
    assert build.run_init({"checkpoint": "mapillary"}, context) == {"checkpoint": str(tmp_path / "mapillary")}
    assert build.run_init({"weights": "imagenet", "checkpoint": ""}, context)["checkpoint"] == ""
    (tmp_path / "train" / "checkpoints" / "7" / "state").mkdir(parents=True)
    assert build.run_init({"checkpoint": "mapillary"}, context) == {}


def test_maps_to_cityscapes_keep_its_classes():
    for name in ("mapillary_to_cityscapes", "bdd100k_to_cityscapes"):
        assert class_table(name).names == class_table("cityscapes").names
