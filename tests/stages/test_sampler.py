"""The section sampler: what is read of it, what is wrong in it, and a training on mixed epochs."""

import dataclasses
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from segjax import models
from segjax.data.mixed_plan import PartOptions
from segjax.errors import UserError
from segjax.stages import run_recipe, train
from segjax.stages.config import choices
from segjax.stages.extra_data import read_extras
from segjax.stages.sampler import check_sampler, read_sampler
from tests.config_tools import read_config
from tests.networks import documented_network
from tests.stages.test_extension import assert_equal, recipe

PARTS = dict(
    real=dict(kind="centroid", ratio=1.0), pseudo=dict(kind="centroid", ratio=3, absent="random", min_area=4, share=0.5)
)
EXTRA = read_extras(dict(pseudo=dict(split="pool")), "train.extra")


def mixed(**parts):
    return read_sampler(dict(kind="mixed", parts=parts), "train")


def test_a_mixed_sampler_is_read():
    found = read_sampler(dict(kind="mixed", parts=PARTS), "train")
    assert found.kind == "mixed" and found.cut_epoch is None and found.where == "train.sampler"
    assert found.options["parts"] == {
        "real": PartOptions("centroid", 1.0, {}),
        "pseudo": PartOptions("centroid", 3, dict(absent="random", min_area=4, share=0.5)),
    }
    check_sampler(found, EXTRA)
    check_sampler(mixed(real=dict(ratio=1)), ())  # without extra data, too


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(kind="mixed"), "train.sampler.parts is missing"),
        (dict(kind="mixed", parts=dict(kind="centroid")), "train.sampler.parts must name the parts"),
        (dict(kind="mixed", parts={}), "train.sampler.parts must name the parts"),
        (dict(kind="mixed", parts=PARTS, cut_epoch=3), "train.sampler.cut_epoch is not known"),
        (dict(kind="mixed", parts=dict(real=dict(kind="mixed", ratio=1))), "train.sampler.parts.real.kind='mixed'"),
        (dict(kind="mixed", parts=dict(real=dict(kind="centroid"))), "train.sampler.parts.real.ratio is missing"),
        (dict(kind="mixed", parts=dict(real=dict(ratio=-1))), "train.sampler.parts.real.ratio=-1 must be a number, 0 "),
        (dict(kind="mixed", parts=dict(real=dict(ratio="1:3"))), "train.sampler.parts.real.ratio='1:3' must be a num"),
        (dict(kind="mixed", parts=dict(real=dict(ratio=1, min_area=4))), "real.min_area is not known"),
        (dict(kind="mixed", parts=dict(real=dict(kind="centroid", ratio=1, min_area=0))), "real.min_area=0 must be"),
        (
            dict(kind="mixed", parts=dict(real=dict(kind="centroid", ratio=1, absent="share"))),
            "train.sampler.parts.real.absent='share' is not known. Did you mean 'shared'",
        ),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        read_sampler(settings, "train")


def test_parts_that_do_not_fit_the_extra_data():
    one = dict(kind="uniform", ratio=1)
    for parts, extra, message in (
        (dict(real=one), EXTRA, "train.sampler.parts.pseudo is missing"),
        (dict(real=one, psuedo=one), EXTRA, "train.sampler.parts.psuedo names no part .* Did you mean 'pseudo'"),
        (dict(real=one, pseudo=one), (), "train.sampler.parts.pseudo names no part"),
        (dict(pseudo=one), EXTRA, "train.sampler.parts.real is missing"),
        (dict(real=one | dict(ratio=0), pseudo=one | dict(ratio=0.0)), EXTRA, "train.sampler.parts: all ratios are 0"),
        (
            dict(real=one, pseudo=one),
            (dataclasses.replace(EXTRA[0], in_epoch=True),),
            "train.extra.pseudo.in_epoch=True means nothing .* set train.sampler.parts.pseudo.ratio",
        ),
    ):
        with pytest.raises(UserError, match=message):
            check_sampler(mixed(**parts), extra)
    section = read_config("configs/vplr.py").train.to_dict() | dict(sampler=dict(kind="mixed", parts=dict(real=one)))
    with pytest.raises(UserError, match="train.sampler.parts.propagate is missing"):
        train.read(section | dict(extra=dict(stage="propagate", mode="jp", steps=(1,))), "train")


def test_the_command_line_changes_parts():
    """A cut, which mixed epochs have not, gives way; so do options that the new kind of a part does not have."""
    found = read_config(
        "configs/vplr.py:cityscapes,data=nowhere", "--config.train.sampler.kind=mixed",
        "--config.train.sampler.parts={'real': {'kind': 'uniform', 'ratio': 1.0}}",
    ).train.sampler  # fmt: skip
    assert found.to_dict() == dict(kind="mixed", parts=dict(real=dict(kind="uniform", ratio=1.0)))
    stage = dict(sampler=dict(kind="mixed", parts=dict(real=dict(kind="uniform", ratio=1, min_area=16))))
    with pytest.raises(UserError, match="train.sampler.parts.real.min_area means nothing to 'uniform'"):
        choices.check_choices(stage, where="train")
    config = ConfigDict(dict(stages=("train",), train=stage, dataset=dict(name="camvid")))
    choices.apply_overrides(config, ["train.sampler.parts.real.kind"])
    assert config.train.sampler.parts.real.to_dict() == dict(kind="uniform", ratio=1)


def test_the_example_of_the_documentation_is_read():
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()
    example = {}
    exec(re.search(r"^## Mixed epochs.*?```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)[1], example)
    found = read_sampler(example["sampler"], "train")
    check_sampler(found, EXTRA)
    assert found.options["parts"]["pseudo"] == PartOptions("centroid", 3.0, dict(min_area=16, absent="shared"))


def test_a_training_on_mixed_epochs_resumes_and_reports_them(street_dir, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(models.MODELS, "tiny", documented_network())
    monkeypatch.setitem(choices._MODELS, "tiny", set(models.options("tiny")))
    parts = dict(real=dict(kind="centroid", ratio=1.0), more=dict(kind="uniform", ratio=0.5))
    settings = dict(sampler=dict(kind="mixed", parts=parts), extra=dict(more=dict(split="validation[:6]")))
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    run_recipe(recipe(street_dir, total_steps=4, **settings), workdir=halved, only="train")
    caplog.clear()  # the first run is logged too if a test before this one has set up the logger
    with caplog.at_level("INFO", logger="segjax"):
        report = run_recipe(recipe(street_dir, total_steps=9, **settings), workdir=whole, only="train")["train"]
    real = report["epoch_shares"]["0"]["samples"] * 2 // 3
    assert "part more: " in caplog.text and f"part real: {real} samples per epoch (ratio 1) of {real}" in caplog.text
    lines = [record.getMessage() for record in caplog.records if " samples per epoch: " in record.getMessage()]
    shown = f"{real * 3 // 2} samples per epoch: real 66.7 %, more 33.3 %"
    epochs = report["epoch_shares"]["all"]["epochs"]
    assert lines == [f"epoch {epoch + 1}: {shown}" for epoch in range(epochs)] and epochs > 1
    assert "epoch 2:   % around anywhere 33.3, " in caplog.text
    limits = report["epoch_shares"]["all"]
    assert limits["parts"] == {"real": [0.666667, 0.666667], "more": [0.333333, 0.333333]}
    again = run_recipe(recipe(street_dir, total_steps=9, **settings), workdir=halved, only="train")["train"]
    assert again["epoch_shares"] == report["epoch_shares"]
    assert_equal(halved, whole)
