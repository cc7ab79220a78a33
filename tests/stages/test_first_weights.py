"""The warning of a training that starts from other weights than the published one."""

import logging

import pytest

from configs import transfer, vplr
from segjax.errors import UserError
from segjax.stages import train, train_video
from segjax.stages.dataset import read_dataset
from segjax.stages.stage import Preview

LIGHT = ("camvid,net=fastscnn", "camvid,net=efficientnet", "propagate=none", "own", "mapillary")


def warned(arg, workdir, caplog, **init):
    config = vplr.get_config(arg)
    config.train.init.update(init)
    options = train.read(config.train, "train")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "segjax"):
        train.check(options, Preview("train", workdir, read_dataset(config.dataset, "dataset"), spec_of=None))
    return caplog.messages


@pytest.mark.parametrize(
    "arg, start, origin, remedy",
    [
        ("kitti", "random", "Cityscapes", "add --config.train.init.checkpoint=RUN, or --config"),
        ("camvid", "ImageNet", "Cityscapes", "--config.train.init.weights= --config.train.init.checkpoint=RUN"),
        ("cityscapes", "ImageNet", "Mapillary Vistas", "--config.train.init.weights=FILE"),
        ("cityscapes,submission", "ImageNet", "Mapillary Vistas", "checkpoint=RUN"),
    ],
)
def test_a_preset_without_the_weights_of_the_paper_warns_once(tmp_path, caplog, arg, start, origin, remedy):
    (message,) = warned(arg, tmp_path, caplog)
    assert f"starts from {start} weights" in message and f"a network trained on {origin}" in message
    assert remedy in message


@pytest.mark.parametrize("chain, warns", [("kitti", True), ("cityscapes+kitti", False)])
def test_a_chain_warns_of_its_first_stage_only(tmp_path, caplog, chain, warns):
    config = transfer.get_config(chain)
    options = train.read(config.train, "train")
    train.check(options, Preview("train", tmp_path, read_dataset(config.dataset, "dataset"), spec_of=None))
    assert ("a network trained on Cityscapes" in caplog.text) == warns


@pytest.mark.parametrize("init", [dict(weights="", checkpoint="runs/city"), dict(weights="a.pth"), dict(expected="")])
def test_given_weights_are_as_published(tmp_path, caplog, init):
    assert not warned("cityscapes", tmp_path, caplog, **init)


@pytest.mark.parametrize("arg", LIGHT)
def test_presets_with_scores_of_their_own_do_not_warn(tmp_path, caplog, arg):
    assert not warned(arg, tmp_path, caplog)


def test_a_training_that_resumes_has_its_weights(tmp_path, caplog):
    (tmp_path / "train" / "checkpoints" / "7" / "state").mkdir(parents=True)
    assert not warned("kitti", tmp_path, caplog)


def test_other_trainings_read_the_key_too(tmp_path, caplog):
    section = vplr.get_config("").train_video
    section.init.expected = "a network of Cityscapes' sequences"
    options = train_video.read(section, "train_video")
    train_video.STAGE.check(options, Preview("train_video", tmp_path, None, spec_of=None))
    assert "stage train_video starts from random weights" in caplog.text
    wrong = section.to_dict() | dict(init=dict(expected=3))
    with pytest.raises(UserError, match="train_video.init.expected=3 must be text"):
        train_video.read(wrong, "train_video")
