"""The table of stages: what each reads of a recipe, which inputs it names, and when it runs again."""

import dataclasses
import inspect

import pytest

from segjax.errors import UserError
from segjax.stages.recipe import STAGES
from segjax.stages.stage import Stage

TRAIN = dict(
    kind="train",
    batch_size=2,
    crop=dict(size=[32, 48]),
    total_epochs=1,
    model=dict(name="fastscnn"),
    loss=dict(main=dict(name="cross_entropy")),
    optimizer=dict(name="sgd", lr=0.1),
)
VIDEO = dict(
    kind="train_video",
    batch_size=2,
    crop=dict(size=(32, 48)),
    total_steps=1,
    model=dict(name="sdcnet2d"),
    optimizer=dict(name="adam", lr=1e-3),
)
SNIPPETS = dict(
    kind="train_gsvnet",
    total_steps=1,
    batch_size=2,
    crop=dict(size=(32, 48)),
    keyframe=dict(checkpoint="train"),
    model=dict(name="gsvnet"),
    loss=dict(main=dict(name="cross_entropy")),
    optimizer=dict(name="sgd", lr=0.1),
)
SMALLEST = {
    "train": TRAIN,
    "train_video": VIDEO,
    "train_gsvnet": SNIPPETS,
    "propagate": dict(kind="propagate", method="flow"),
    "pseudo_label": dict(kind="pseudo_label", checkpoint="train", unlabelled=dict(rest=dict(split="train::8"))),
    "recalibrate": dict(kind="recalibrate", checkpoint="train"),
    "choose": dict(kind="choose", stages=("evaluate",)),
    "evaluate": dict(kind="evaluate", checkpoint="train", split="test"),
    "evaluate_video": dict(kind="evaluate_video", checkpoint="train_gsvnet"),
    "disable_tail": dict(kind="disable_tail", checkpoint="train", split="test"),
    "compare": dict(kind="compare", cells=[dict(series="a", at=0, stages=["evaluate"])]),
}


def read(kind, **changes):
    return STAGES[kind].read({**SMALLEST[kind], **changes}, kind)


@pytest.mark.parametrize("kind", STAGES)
def test_every_stage_is_two_functions_over_frozen_options(kind):
    stage = STAGES[kind]
    assert isinstance(stage, Stage)
    assert list(inspect.signature(stage.read).parameters) == ["settings", "where"]
    assert list(inspect.signature(stage.run).parameters) == ["options", "context"]
    options = read(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, dataclasses.fields(options)[0].name, None)
    assert options == read(kind)
    with pytest.raises(UserError, match=f"config key {kind}.other is not known"):
        read(kind, other=1)


def test_which_stages_run_again():
    """A training or its data is never replaced by mistake; scores are cheap, and a comparison only reads them."""
    assert {kind: stage.again for kind, stage in STAGES.items()} == {
        "train": "never", "train_video": "never", "train_gsvnet": "never", "propagate": "never",
        "pseudo_label": "never", "recalibrate": "when_stale", "evaluate": "when_stale",
        "evaluate_video": "when_stale", "disable_tail": "when_stale", "compare": "always", "choose": "when_stale",
    }  # fmt: skip


def test_inputs_are_the_keys_that_name_other_stages():
    def inputs(kind, begun=False, **changes):
        return STAGES[kind].inputs(read(kind, **changes), begun)

    first = dict(checkpoint="teacher")
    assert inputs("train_gsvnet") == {"init.checkpoint": "", "keyframe.checkpoint": "train"}
    assert inputs("train_gsvnet", init=first, begun=True) == {"init.checkpoint": "", "keyframe.checkpoint": ""}
    assert inputs("evaluate_video") == {"checkpoint": "train_gsvnet", "keyframe": ""}
    for kind in ("train", "train_video"):
        assert inputs(kind) == {"init.checkpoint": ""}
        assert inputs(kind, init=first) == {"init.checkpoint": "teacher"}
        assert inputs(kind, init=first, begun=True) == {"init.checkpoint": ""}, "what it began with may be gone"
    propagated = dict(stage="propagate", mode="jp", steps=(1,))
    assert inputs("train", extra=propagated) == {"init.checkpoint": "", "extra.stage": "propagate"}
    several = dict(near=propagated, coarse=dict(split="train_extra"))
    assert inputs("train", extra=several, begun=True) == {
        "init.checkpoint": "", "extra.near.stage": "propagate", "extra.coarse.stage": "",
    }  # fmt: skip
    assert inputs("evaluate", begun=True) == {"checkpoint": "train"}
    assert inputs("recalibrate", begun=True) == {"checkpoint": "train"}
    assert inputs("disable_tail", checkpoint=dict(a="train", b="other")) == {
        "checkpoint.a": "train", "checkpoint.b": "other",
    }  # fmt: skip
    assert inputs("propagate", method="prediction", checkpoint="train_video") == {"checkpoint": "train_video"}
    assert inputs("compare") == {"cells[0].stages[0]": "evaluate"}


def test_defaults_are_in_the_options():
    options = read("train", mesh={"data": 2}, eval_limit=0, param_rules=[[".*", "data"]])
    assert options.plan.crop.size == (32, 48) and options.plan.crop.scale_range == (1.0, 1.0)
    assert (options.plan.checkpoint, options.plan.evaluate, options.plan.accumulate_steps) == (None, None, 1)
    assert (options.run.log_steps, options.run.keep, options.eval_limit, options.ema_decay) == (10, 2, None, 0.0)
    assert options.mesh == {"data": 2} and options.dtype == "float32" and options.normalisation == "imagenet"
    assert options.sampler.kind == "uniform" and options.extra == () and options.dataset is None
    assert read("train").mesh == read("train_video").mesh == read("evaluate").mesh == {"data": -1}
    video = read("train_video")
    assert video.loss == {"color": 0.7, "gradient": 0.2, "smooth": 0.1} and video.features is None
    assert (video.video.split, video.video.eval_split, video.video.reverse) == ("train", "validation", 0.5)
    assert video.flow.name == "dis" and video.flow.measure == 64 and video.sheet_rows == 6
    assert read("propagate").steps == 5 and read("propagate").directions == (1, -1)
    own = read("evaluate", dataset=dict(name="camvid", test="test"), protocol="cityscapes_multi", flip=False)
    assert own.dataset.name == "camvid" and own.dataset.splits == {"test": "test"} and own.batch_size == 1
    assert own.views["flip"] and own.views["scales"] == read("evaluate", protocol="cityscapes_multi").views["scales"]
    assert read("evaluate", protocol="cityscapes_multi", scales=[0.5]).views["scales"] == (0.5,)


WRONG = {
    ("train", "dataset.nam is not known. Did you mean 'name'"): dict(dataset=dict(nam="camvid")),
    ("train", "train.mesh.dta is not known"): dict(mesh=dict(dta=1)),
    ("train", "train.sampler.tile=-5 must be"): dict(sampler=dict(kind="class_uniform", tile=-5)),
    ("train", "train.augment.seed is not known"): dict(augment=dict(seed=3)),
    ("train", "loader.prefetch=-1 must be 0 or more"): dict(loader=dict(prefetch=-1)),
    ("train", "train.optimizer.schedule.warmup_steps and train.optimizer.schedule.warmup_epochs; keep one"): dict(
        optimizer=dict(name="sgd", lr=0.1, schedule=dict(warmup_steps=1, warmup_epochs=1))
    ),
    ("train", "train.loss.main.on='logit' is not an output of this network"): dict(
        loss=dict(main=dict(name="cross_entropy", on="logit"))
    ),
    ("train", "'fastscnn' has no option 'dept'"): dict(model=dict(name="fastscnn", options=dict(dept=1))),
    ("train", "layout='64-4' does not exist. Did you mean '64to4'"): dict(
        model=dict(name="ldn121", options=dict(layout="64-4", aux=False))
    ),
    ("train", "layout='64to4' does not fit resnet18, which has no dense layers to split"): dict(
        model=dict(name="lrn18", options=dict(layout="64to4"))
    ),
    ("train", "train.init.weights='imagenet' does not fit the network's option random_init=True"): dict(
        model=dict(name="ldn121", options=dict(random_init=True)), init=dict(weights="imagenet")
    ),
    ("train_video", "flow.mean and flow.std of train_video must both hold 2 numbers"): dict(
        flow=dict(name="dis", mean=(0.0, 0.0))
    ),
    ("train_video", "set space=1"): dict(mesh=dict(data=1, space=2)),
    ("train_video", "give the flow's statistics as flow.std"): dict(
        model=dict(name="sdcnet2d", options=dict(flow_std=(1.0, 1.0)))
    ),
    ("train_video", "flow.on='crop' cannot be with the exact flow"): dict(flow=dict(name="exact", on="crop")),
    ("train_video", "train_video.features.model is missing"): dict(loss=dict(style=1.0)),
    ("train_video", "train_video.crop.scale_range: frames keep their scale"): dict(
        crop=dict(size=(32, 48), scale_range=(0.5, 2.0))
    ),
    ("propagate", "propagate.flow.nam is not known"): dict(flow=dict(nam="dis")),
    ("evaluate", "evaluate.dataset.name is missing"): dict(dataset=dict(test="x")),
    ("evaluate", "evaluate.outputs='aux' must be 'all', or list outputs"): dict(outputs="aux"),
    ("evaluate", "evaluate.best=-1 must be"): dict(best=-1),
    ("disable_tail", "disable_tail.units=(-1,) must list whole numbers"): dict(units=(-1,)),
    ("disable_tail", "disable_tail.checkpoint={} must be a checkpoint, or name several"): dict(checkpoint={}),
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[1])
def test_what_no_run_could_use_is_found_while_reading(case):
    kind, sentence = case
    with pytest.raises(UserError) as error:
        read(kind, **WRONG[case])
    assert sentence in str(error.value)


@pytest.mark.parametrize("kind", ["train", "train_video", "recalibrate", "evaluate", "disable_tail", "compare"])
def test_required_keys(kind):
    required = {
        "train": ("batch_size", "crop", "model", "loss", "optimizer"),
        "train_video": ("batch_size", "crop", "model", "optimizer"),
        "recalibrate": ("checkpoint",),
        "evaluate": ("checkpoint", "split"),
        "disable_tail": ("checkpoint", "split"),
        "compare": ("cells",),
    }
    for key in required[kind]:
        section = {name: value for name, value in SMALLEST[kind].items() if name != key}
        with pytest.raises(UserError, match=f"config key {kind}.{key} is missing"):
            STAGES[kind].read(section, kind)
