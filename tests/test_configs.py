"""Every recipe: its presets as golden text, its options strict. Their debug runs are in test_debug_runs*.py.

UPDATE_GOLDEN=1 pytest tests/test_configs.py   rewrites tests/golden/ after a change that is meant.
"""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from absl import flags

from configs import common
from segjax.commands.train import define_flags, parse_flags
from segjax.data.classes import CLASSES
from segjax.files import as_text
from segjax.stages.recipe import read_recipe
from tests.recipe_runs import RECIPES, ROOT, SHIPPED, load

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("recipe, arg", SHIPPED)
def test_golden(recipe, arg):
    text = as_text(load(recipe, arg)) + "\n"
    path = GOLDEN / f"{recipe}-{arg.replace(',', '-').replace('=', '_') or 'default'}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"no golden text for {recipe}:{arg}; run UPDATE_GOLDEN=1 pytest tests/test_configs.py"
    assert text == path.read_text()


@pytest.mark.parametrize("recipe, arg", SHIPPED)
def test_plain_data_only(recipe, arg):
    config = load(recipe, arg)
    assert json.loads(as_text(config))
    assert config.stages and all(name in config for name in config.stages)


def frozen(value) -> bool:
    """Whether nothing of the options is a recipe's section, and no dataclass in them can be changed."""
    if dataclasses.is_dataclass(value):
        fields = (getattr(value, field.name) for field in dataclasses.fields(value))
        return value.__dataclass_params__.frozen and all(map(frozen, fields))
    if isinstance(value, dict):
        return all(map(frozen, value.values()))
    if isinstance(value, (tuple, list)):
        return all(map(frozen, value))
    return value is None or isinstance(value, (str, int, float))


@pytest.mark.parametrize("recipe, arg", SHIPPED)
def test_every_section_is_read_into_frozen_options(recipe, arg, monkeypatch):
    """Without data: none of these presets needs its dataset to be checked."""
    monkeypatch.setattr("segjax.stages.dataset.open_source", None)
    config = load(recipe, arg)
    before = as_text(config)
    options = read_recipe(config)
    assert list(options) == list(config.stages)
    assert all(map(frozen, options.values()))
    assert as_text(config) == before and read_recipe(config) == options


@pytest.mark.parametrize("recipe", RECIPES)
def test_sweep_prints_command_lines(recipe):
    run = subprocess.run(
        [sys.executable, "-m", "configs.common", f"configs/{recipe}.py"], cwd=ROOT, capture_output=True, text=True
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0 and lines
    assert all(line.startswith(f"python main.py --config=configs/{recipe}.py") for line in lines)
    assert len({line.split("--workdir=")[1].split()[0] for line in lines}) == len(lines)


def test_parse_arg():
    read = lambda arg: dict(common.parse_arg(arg, preset="a", crop=800, rate=0.5, debug=False))  # noqa: E731
    assert read(None) == {"preset": "a", "crop": 800, "rate": 0.5, "debug": False}
    assert read("b,crop=64,debug") == {"preset": "b", "crop": 64, "rate": 0.5, "debug": True}
    assert read("rate=1,debug=false") == {"preset": "a", "crop": 800, "rate": 1.0, "debug": False}
    with pytest.raises(ValueError, match="did you mean 'crop'"):
        read("corp=3")
    with pytest.raises(ValueError, match="must be a whole number"):
        read("crop=big")


def test_coarse_labels_add_places_of_rare_classes():
    """Beside propagated frames, too; the epochs are as long as without."""
    config = load("vplr", "cityscapes,coarse,propagate=flow,k=3")
    assert config.dataset.options.parts == ("fine", "sequence", "coarse")
    assert config.train.extra.propagated.steps == (3,) and config.train.sampler.cut_epoch == 150
    coarse = config.train.extra.coarse
    assert (coarse.split, coarse.in_epoch) == ("train_extra", False) and set(coarse.classes) < set(names("cityscapes"))
    read_recipe(config)
    small = load("vplr", "cityscapes,coarse,debug")
    assert small.dataset.name == "synthetic_street" and small.train.extra.coarse.split == "train"
    with pytest.raises(ValueError, match="belongs to the preset cityscapes"):
        load("vplr", "camvid,coarse")


def names(table: str) -> list[str]:
    return [label.name for label in CLASSES[table].labels]


def test_students_learn_from_the_labels_of_their_teacher():
    config = load("csst", "camvid,net=efficientnet,ratio=3")
    assert config.stages == ("teacher", "evaluate_teacher", "pseudo_label", "student", "evaluate")
    assert config.pseudo_label.checkpoint == "teacher" and config.student.extra.pseudo.stage == "pseudo_label"
    assert {name: part.ratio for name, part in config.student.sampler.parts.items()} == {"real": 1.0, "pseudo": 3.0}
    assert config.student.total_steps == config.teacher.total_steps
    assert config.student.init.weights == "imagenet" and not config.student.init.checkpoint


def test_methods_of_self_training():
    finetune, pretrain, soft, regulariser, consistency = (
        load("csst", f"method={m}") for m in ("finetune", "pretrain", "soft", "regulariser", "consistency")
    )
    assert finetune.student.init.checkpoint == "teacher"
    assert finetune.student.optimizer.lr == 0.1 * finetune.teacher.optimizer.lr
    assert pretrain.pretrain.sampler.parts.real.ratio == 0 and "extra" not in pretrain.student
    assert pretrain.student.init.checkpoint == "pretrain"
    assert soft.pseudo_label.labels == "soft" and soft.student.loss.main.name == "top_k_cross_entropy"
    assert regulariser.student.loss.smooth.parts == ("pseudo",)
    assert consistency.stages == ("student", "evaluate") and consistency.student.extra.rest.labels == "online"


def test_options_of_self_training_are_not_overridden():
    assert load("csst", "camvid,unlabelled=x").dataset.train == "train"
    assert load("csst", "camvid,unlabelled=x,every=4").dataset.train == "train::4"
    assert load("csst", "camvid,data=DIR").dataset.options.source_dir == "DIR/camvid"
    assert load("csst", "cityscapes,steps=50").student.total_steps == 50
    stages = load("csst", "bdd100k,loops=2").stages
    assert len(set(stages)) == len(stages) and stages[-4:] == ("student_2", "evaluate_student_2", "adapt", "evaluate")


def test_the_first_version_of_the_paper_draws_half_of_the_real_images():
    parts = load("csst", "cityscapes,v1,ratio=7").student.sampler.parts
    assert (parts.real.kind, parts.real.ratio, parts.pseudo.ratio) == ("uniform", 0.5, 3.5)
    assert load("csst", "cityscapes,v1").student.crop.warmup_epochs == 20


@pytest.mark.parametrize(
    "arg, message",
    [
        ("coarse", "belongs to the preset cityscapes"),
        ("cityscapes,method=finetune,net=ocr", "same net and teacher"),
        ("method=consistency,loops=2", "has none"),
        ("ratio=-1", "must be above 0"),
        ("own,images=x", "needs unlabelled="),
        ("own,images=x,unlabelled=y,method=consistency", "as a data set"),
        ("net=resnet", "unknown net"),
        ("camvid,images=x", "belongs to the preset own"),
        ("voc2012,shots=5", "the presets bdd100k and mapillary"),
        ("camvid,frames_every=5", "give both"),
    ],
)
def test_options_of_self_training_that_do_not_fit(arg, message):
    with pytest.raises(ValueError, match=message):
        load("csst", arg)


def test_ladders_have_the_layout_and_the_rates_of_their_preset():
    config = load("ldn", "cityscapes")
    assert config.train.model.to_dict() == {"name": "ldn121", "options": {"layout": "64to4"}}
    assert dict(config.train.optimizer.lr_rules)[".*"] == 1.0 and 0.25 in dict(config.train.optimizer.lr_rules).values()
    assert 0.125 in dict(load("ldn", "voc2012").train.optimizer.lr_rules).values()
    assert load("ldn", "camvid,init=random").train.total_epochs == 2 * load("ldn", "camvid").train.total_epochs == 800
    assert load("ldn", "camvid,init=random").train.model.options.random_init
    assert "layout" not in load("ldn", "cityscapes,net=lrn18").train.model.options  # which has another one of its own
    assert load("ldn", "cityscapes_half").dataset.resize == 0.5
    assert load("ldn", "cityscapes,remat=layer+stem").train.remat == "layer+stem"


def test_augmentations_of_ladders_add_up():
    found = {name: load("ldn", f"cityscapes,augment={name}").train for name in ("none", "flip", "crop", "scale")}
    assert [train.augment.flip for train in found.values()] == [False, True, True, True]
    assert [train.crop.size == (768, 768) for train in found.values()] == [False, False, True, True]
    assert [train.crop.scale_range == (0.5, 2.0) for train in found.values()] == [False, False, False, True]


def test_every_training_of_ladders_is_recalibrated_before_it_is_scored():
    for arg in ("camvid", "voc2012", "cross", "rob2018"):
        config = load("ldn", arg)
        of = {name: config[name] for name in config.stages}
        scored = {stage.checkpoint for stage in of.values() if stage.kind == "evaluate"}
        assert scored and all(of[name].kind == "recalibrate" for name in scored)
        assert all(of[of[name].checkpoint].kind == "train" for name in scored)


def test_an_epoch_of_ladders_shows_the_images_of_every_dataset():
    for config, name in ((load("ldn", "cross"), "both"), (load("ldn", "rob2018"), "train")):
        assert config[name].sampler.kind == "uniform" and config[name].extra
        assert all(part.times == 1 for part in config[name].extra.values())


@pytest.mark.parametrize(
    "arg, message",
    [
        ("net=ldn12", "did you mean 'ldn121'"),
        ("init=imagenet", "no ImageNet weights fit"),
        ("camvid,net=efficientnet,init=random", "is for ImageNet weights"),
        ("camvid,augment=colour", "unknown augment"),
        ("epochs=-1", "0 or more"),
        ("cross,analyses", "of one dataset"),
    ],
)
def test_options_of_ladders_that_do_not_fit(arg, message):
    with pytest.raises(ValueError, match=message):
        load("ldn", arg)


@pytest.mark.parametrize(
    "recipe, stage",
    [("vplr", "train"), ("vplr", "train_video"), ("csst", "student"), ("transfer", "train"), ("ldn", "train")],
)
def test_segments_replace_the_boolean_of_a_recipe(recipe, stage):
    """On the command line, where an override must have the type of the value that it replaces."""
    argv = ["main.py", f"--config={ROOT}/configs/{recipe}.py", f"--config.{stage}.remat=block+up"]
    values = flags.FlagValues()
    define_flags(values, argv)
    parse_flags(argv, values)
    assert values.config[stage].remat == "block+up"
