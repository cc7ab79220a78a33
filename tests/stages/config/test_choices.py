"""Names with options: what is given on the command line goes before the recipe, and what is wrong is found first."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import common
from segjax.errors import UserError, did_you_mean
from segjax.recipes import recipe_names
from segjax.stages.config.choices import check_choices, find_choices
from segjax.stages.recipe import check_inputs, read_recipe
from segjax.training.terms import loss_terms
from tests.config_tools import read_config

ROOT = Path(__file__).resolve().parents[3]


def read(*words: str, recipe: str = "configs/vplr.py"):
    return read_config(recipe, *words)


NAMES = {
    "sampler": (["train.sampler.kind=uniform"], "train.sampler", {"kind": "uniform"}),
    "optimizer": (["train.optimizer.name=adamw"], "train.optimizer.options", {"weight_decay": 1e-4}),
    "schedule": (
        ["train.optimizer.schedule.kind=cosine"],
        "train.optimizer.schedule",
        {"kind": "cosine", "per": "step", "warmup_steps": 20},
    ),
    "own option": (
        ["train.optimizer.name=adamw", "train.optimizer.options.b1=0.8"],
        "train.optimizer.options",
        {"b1": 0.8, "weight_decay": 1e-4},
    ),
    "duration": (["train.optimizer.schedule.warmup_percent=5"], "train.optimizer.schedule.warmup_percent", 5),
    "new option": (["train.model.options.aux=True"], "train.model.options", {"aux": True}),
    "cleared": (["train.optimizer.options={}"], "train.optimizer.options", {}),
    "written out": (["train.sampler={'kind': 'uniform'}"], "train.sampler", {"kind": "uniform"}),
    "parts of a loss": (
        ["train.loss.main.name=cross_entropy", "train.loss.main.parts=('real',)"],
        "train.loss.main",
        {"name": "cross_entropy", "on": "heads", "weight": 1.0, "options": {}, "parts": ("real",)},
    ),
    "data set": (["dataset.name=camvid"], "dataset.options", {}),
}


@pytest.mark.parametrize("case", NAMES)
def test_the_command_line_goes_before_the_recipe(case):
    words, path, wanted = NAMES[case]
    found = read(*(f"--config.{word}" for word in words))
    for key in path.split("."):
        found = found[key]
    assert (found.to_dict() if isinstance(found, ConfigDict) else found) == wanted


def test_losses_and_durations_apply_overrides():
    config = read(
        "--config.train.loss.main.name=cross_entropy", "--config.train.total_steps=7",
        recipe="configs/vplr.py:camvid,net=efficientnet",
    )  # fmt: skip
    assert config.train.loss.main.options.to_dict() == {}  # strict_classes is of the relaxed one
    assert config.train.total_steps == 7 and "total_epochs" not in config.train
    assert loss_terms(read_recipe(config)["train"].loss, {"logits": 1.0})


def test_another_data_set_takes_no_options_of_the_first():
    config = read("--config.dataset.name=camvid", recipe="configs/vplr.py:propagate=none,debug")
    assert config.dataset.options.to_dict() == {}


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["train.sampler.kind=uniform", "train.sampler.tile=9"], "train.sampler.tile means nothing to 'uniform'"),
        (["train.sampler.kind=unifrom"], "Did you mean 'uniform'"),
        (["train.sampler.tiel=9"], "Did you mean 'tile'"),
        (["train.optimizer.options.b1=0.9"], "an option of adam, amsgrad, adamw"),
        (["train.optimizer.name=sdg"], "Did you mean 'sgd'"),
        (["train.loss.main.options.window_size=5"], "Did you mean 'window'"),
        (["train.model.options.dtype=float32"], "train.model.options.dtype is not known"),
        (["train.batchsize=3"], "train.batchsize is not known. Did you mean 'batch_size'"),
        (["train.mesh.dta=2"], "Did you mean 'data'"),
        (["train.crop.schedule=coarse2fin"], "Did you mean 'coarse2fine'"),
        (["train.augment.blurr={}"], "Did you mean 'blur'"),
        (["train.loader.threads=3"], "Did you mean 'num_threads'"),
        (["train.init.weight=x"], "Did you mean 'weights'"),
        (["train.normalisation=imagnet"], "Did you mean 'imagenet'"),
        (["evaluate.protocol=cityscapes"], "Did you mean 'cityscapes_multi'"),
        (["evaluate.flipp=True"], "Did you mean 'flip'"),
        (["train.total_steps=1", "train.total_percent=3"], "keep one of them"),
        (["sede=1"], "Did you mean 'seed'"),
        (["stages=()"], "stages=() must list the stages to run"),
        (["train.batch_size=0"], "train.batch_size=0 must be a whole number, 1 or more"),
        (["train.keep=0"], "train.keep=0 must be"),
        (["train.ema_decay=1.0"], "train.ema_decay=1.0 must be a number, 0 or more and below 1"),
        (["train.optimizer.lr=-0.1"], "train.optimizer.lr=-0.1 must be"),
        (["train.optimizer.lr=nan"], "train.optimizer.lr=nan must be"),
        (["train.total_epochs=0"], "train needs a length: one of total_epochs, _steps or _examples, above 0"),
        (["train.total_percent=5"], "train.total_percent cannot be given in percent here; use total_steps"),
        (["train.augment.seed=1"], "train.augment.seed is not known"),  # from the code, and no choice of a recipe
        (["train.crop.epochs=3"], "train.crop.epochs is not known"),
        (["train.init.skipp=x"], "Did you mean 'skip'"),
        (["train.sampler.cut_places=none"], "train.sampler.cut_places='none' is not known"),
        (["train.loss.main.onn=aux"], "train.loss.main.onn is not known. Did you mean 'on'"),
        (["train.loss={}"], "train.loss has no terms; add for example main={'name': 'cross_entropy'}"),
        (["train.dtype=float16"], "Did you mean"),
        (["train.eval_limit=-1"], "train.eval_limit=-1 must be"),
        (["train.crop.size=(64,)"], "train.crop.size=(64,) must be height and width"),
        (["train.crop.size=(64,64.5)"], "train.crop.size=(64, 64.5) must be"),
        (["train.crop.scale_range=(1.0,)"], "train.crop.scale_range=(1.0,) must be two factors"),
        (["train.sampler.tile=-5"], "train.sampler.tile=-5 must be"),
        (["evaluate.batch_size=0"], "evaluate.batch_size=0 must be"),
        (["evaluate.worst=-1"], "evaluate.worst=-1 must be"),
        (["evaluate.limit=-1"], "evaluate.limit=-1 must be"),
        (["evaluate.window=(64,)"], "window=(64,) must be two whole numbers"),
        (["evaluate.scales=(0.0,)"], "scales=(0.0,) must hold at least one number, all above 0"),
        (["evaluate.average=mean"], "average='mean' must be"),
    ],
)
def test_a_mistake_in_any_stage_is_found_before_the_first_runs(words, sentence):
    with pytest.raises(UserError) as error:
        read(*(f"--config.{word}" for word in words))
    assert sentence in str(error.value)
    assert "Choose one of: ." not in str(error.value)


def test_stages_read_what_is_there(tmp_path):
    config = common.load(ROOT / "configs/vplr.py").get_config()

    def check():
        check_inputs(config, read_recipe(config), tmp_path)

    check()
    config.evaluate.checkpoint = "trian"
    with pytest.raises(UserError, match="evaluate.checkpoint='trian' is no path.* Did you mean 'train'"):
        check()
    (tmp_path / "trian").mkdir()
    check()


def test_nothing_to_choose_from_is_said_so():
    assert did_you_mean("x", []) == " There is nothing to choose from; leave it out."


def sweeps():
    for recipe in recipe_names():
        found = []
        common.load(ROOT / "configs" / f"{recipe}.py").sweep(
            lambda arg="", found=found, **overrides: found.append((arg, overrides))
        )
        yield from ((recipe, arg, overrides) for arg, overrides in found)


@pytest.mark.parametrize("recipe, arg, overrides", sweeps(), ids=str)
@pytest.mark.parametrize("debug", [False, True], ids=["whole", "debug"])
def test_every_run_of_a_sweep_can_be_built(recipe, arg, overrides, debug):
    argument = ",".join(filter(None, (arg, "debug" if debug else "")))
    words = [f"--config.{key}={value!r}".replace("'", "") if isinstance(value, str) else f"--config.{key}={value!r}"
             for key, value in overrides.items()]  # fmt: skip
    config = read(*words, recipe=f"configs/{recipe}.py:{argument}")
    for stage in config.stages:
        check_choices(config[stage], where=stage)
        assert all(section.get(choice.key, choice.default) for _, section, choice in find_choices(config[stage]))


def test_a_part_of_the_stages_can_be_run():
    """`--config.stages="('train',)"`: the sections of the others stay in the recipe and are no mistake."""
    assert read("--config.stages=('train',)").stages == ("train",)
    with pytest.raises(UserError, match="config.evaluat is missing"):
        read("--config.stages=('train','evaluat')")
