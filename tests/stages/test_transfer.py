"""Chains of trainings: each stage starts from the one before, on the data set it names; the heads are swapped."""

import pytest

from configs import common
from segjax.data import class_table, dataset_names
from segjax.errors import UserError
from segjax.stages.dataset import read_dataset
from segjax.stages.stage import Context
from segjax.stages.training_options import find_init
from segjax.training.start import Init


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
    context = Context("train", tmp_path, tmp_path / "train", 0, read_dataset({"name": "camvid"}, "dataset"))
    with pytest.raises(UserError, match="'mapillary' is neither a stage of .* nor a path; run it first"):
        find_init(Init(checkpoint="mapillary"), context)
    elsewhere = Init(checkpoint=str(tmp_path), scope="all")
    assert find_init(elsewhere, context) == elsewhere
    (tmp_path / "mapillary").mkdir()
    assert find_init(Init(checkpoint="mapillary"), context) == Init(checkpoint=str(tmp_path / "mapillary"))
    assert find_init(Init(weights="imagenet"), context) == Init(weights="imagenet")
    (tmp_path / "train" / "checkpoints" / "7" / "state").mkdir(parents=True)
    assert find_init(Init(checkpoint="mapillary"), context) == Init()


def test_maps_to_cityscapes_keep_its_classes():
    for name in ("mapillary_to_cityscapes", "bdd100k_to_cityscapes"):
        assert class_table(name).names == class_table("cityscapes").names
