"""Shared parts of the recipes: the string argument, the debug size, and common sections.

python -m configs.common configs/vplr.py     prints the command lines of the recipe's sweep
"""

from __future__ import annotations

import difflib
import importlib.util
import shlex
import sys
from pathlib import Path

from ml_collections import ConfigDict, FieldReference


def parse_arg(arg: str | None, **defaults) -> ConfigDict:
    """Returns the options of a string such as "camvid,net=fastscnn,debug".

    A bare word is True for a boolean option of that name, otherwise the value of the first option. Values are converted
    to the type of the default. Raises ValueError for an unknown option, and for a value of another type.
    """
    options = dict(defaults)
    first = next(iter(defaults))
    for part in filter(None, (arg or "").split(",")):
        name, equals, text = part.partition("=")
        if not equals:
            name, text = (name, "True") if isinstance(defaults.get(name), bool) else (first, name)
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(defaults)}."
            raise ValueError(f"unknown recipe option {name!r}; {hint}")
        options[name] = _typed(name, text, defaults[name])
    return ConfigDict(options)


def any_type(value: object) -> FieldReference:
    """Returns a config value that an override may replace by one of another type, as `remat` by names of segments."""
    return FieldReference(value, field_type=object)


_KIND_OF = {bool: "True or False", int: "a whole number", float: "a number"}


def _typed(name: str, text: str, default):
    if isinstance(default, bool):
        if text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
    elif isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            pass
    else:
        return text
    raise ValueError(f"recipe option {name}={text!r} must be {_KIND_OF[type(default)]}, like {default!r}")


def pick(name: str, value: str, choices) -> str:
    """Returns `value`. Raises ValueError unless it is one of `choices`."""
    if value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}."
        raise ValueError(f"unknown {name} {value!r}; {hint}")
    return value


def synthetic_dataset(**options) -> dict:
    """Returns the section `dataset` of the embedded street, which is drawn from a seed and needs no files."""
    return dict(
        name="synthetic_street", options=options, train="train", validation="validation", test="test", data_dir=""
    )


def published_dataset(
    name: str,
    data: str,
    *,
    train: str = "train",
    validation: str = "validation",
    test: str = "",
    label_map: str | None = None,
    **options,
) -> dict:
    """Returns the section `dataset` of a published dataset. Its files are in DATA/NAME, without data in $SEGJAX_NAME.

    test: by default "test" for CamVid, and the validation split of others, whose test labels are not published.
    label_map: left out if None.
    """
    test = test or ("test" if name == "camvid" else validation)
    section = dict(name=name, options=dict(source_dir=f"{data}/{name}" if data else "", **options))
    section.update(train=train, validation=validation, test=test, data_dir="")
    return section if label_map is None else dict(section, label_map=label_map)


def own_dataset(images: str, masks: str, label_map: str) -> dict:
    """Returns the section `dataset` of own images and masks."""
    return dict(
        name="segmentation_folder",
        options=dict(images=images, masks=masks, label_map=label_map),
        train="train",
        validation="validation",
        test="validation",
        data_dir="",
    )


def camvid_on_cpu(train: ConfigDict, net: str) -> None:
    """Sets a training stage for about 20 minutes on 2 cores: crops of most of the image, milder colours, few epochs."""
    # 328 halves to the same odd and even heights as 360 (41 as 45, 21 as 23). So maps are padded and enlarged in
    # training as they are for whole images in the test: 58.3 mIoU, with crops of 320 57.4 (EfficientNet-Lite0).
    train.crop.size = (328, 448)
    train.augment = dict(flip=True, color_jitter=dict(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.0), blur={})
    # At 480x360 poles and riders are 2 to 4 pixels wide, so all their pixels are boundary. With relaxed labels they are
    # hardly learned (Fast-SCNN: pole IoU 2). The released code does not relax the pixels of thin classes either.
    train.loss.main.options = dict(strict_classes=(2, 6, 9, 10))  # pole, sign, pedestrian, bicyclist
    if net == "fastscnn":
        train.total_epochs = 45
        train.optimizer.lr = 0.045
        train.optimizer.schedule = dict(kind="poly", power=0.9, per="step", warmup_steps=50)
        train.optimizer.options = dict(momentum=0.9, weight_decay=4e-5)
    else:
        train.total_epochs = 14
        train.ema_decay = 0.99
        # the statistics of the pyramid must settle in 630 steps; with the published momentum 0.005 it takes thousands
        train.model.options = dict(features=96, spp_momentum=0.1)
        train.normalisation = "efficientnet_lite"
        train.init.weights = "imagenet"
        train.optimizer = dict(
            name="adamw",
            lr=2e-3,
            options=dict(weight_decay=1e-2),
            schedule=dict(kind="poly", power=0.9, per="step", warmup_steps=20),
            lr_rules=(("backbone/.*", 0.25), (".*", 1.0)),
            decay_rules=((".*/kernel", 1.0), (".*", 0.0)),
        )


def mapillary_loss() -> dict:
    """Returns the loss of VPLR's release for Mapillary: cross entropy, weighted by each image's histogram.

    Its weight is 2 because the release adds up the 2 images of a device.
    """
    options = dict(upper_bound=6.0, weight_mode="image_mean")
    return dict(name="cross_entropy", on="heads", weight=2.0, options=options)


def train_video(crop: tuple[int, int], *, epochs: float, batch: int, width: float = 1.0, levels: int = 6) -> dict:
    """Returns a stage "train_video" with the paper's settings (VPLR, appendix A: crop 256, 400 epochs, batch 128)."""
    return dict(
        kind="train_video",
        split="train",
        eval_split="validation",
        frame_step=0,
        total_epochs=epochs,
        batch_size=batch,
        crop=dict(size=crop),
        reverse=0.5,
        flow=dict(name="dis", options=dict(preset="medium"), on="frame", cache_bytes=2**30, measure=64),
        model=dict(name="sdcnet2d_recon", options=dict(width=width, levels=levels, init_as="flow")),
        init=dict(weights="", source="", checkpoint="", skip=()),
        dtype="auto",
        remat=any_type(False),
        loss=dict(color=0.7, gradient=0.2, smooth=0.1),
        optimizer=dict(name="adam", lr=1e-4, options=dict(weight_decay=1e-4), schedule=dict(kind="constant")),
        ema_decay=0.0,
        mesh=dict(data=-1),
        loader=dict(num_workers=0, num_threads=2, cache_bytes=2**30),
        log_steps=10,
        checkpoint_epochs=max(epochs // 5, 1),
        eval_epochs=max(epochs // 5, 1),
        eval_limit=100,
        sheet_rows=6,
        keep=2,
    )


def train_video_small(crop: tuple[int, int] = (96, 128), *, steps: int = 400, eval_limit: int = 24) -> dict:
    """Returns a stage "train_video" of minutes on 2 cores: a quarter of the parameters, 4 halvings, mostly colour loss.

    The defaults suit the street. There these weights of the loss give 27.41 dB in 400 steps, the released weights
    27.28 in 300 (flow alone 26.93).
    """
    stage = train_video(crop, epochs=1, batch=4, width=0.5, levels=4)
    for key in ("total_epochs", "checkpoint_epochs", "eval_epochs"):
        del stage[key]
    stage.update(total_steps=steps, checkpoint_steps=max(steps // 4, 1), eval_steps=max(steps // 2, 1))
    stage["eval_limit"] = eval_limit
    stage["flow"].update(measure=16)
    stage["loss"] = dict(color=25.0, gradient=0.2, smooth=0.02)
    stage["optimizer"].update(lr=2e-3, schedule=dict(kind="poly", power=0.9, per="step", warmup_steps=20))
    return stage


def finetune_video(stage: ConfigDict) -> ConfigDict:
    """Returns a second, shorter stage for the network of the stage called "train_video", with a loss on features.

    SDC-Net (Reda et al., ECCV 2018) did this with the features of VGG16. The weights of the terms are ours, because
    theirs are not released.
    """
    fine = stage.copy_and_resolve_references()
    fine.init.checkpoint = "train_video"
    fine.loss = dict(color=0.2, smooth=0.1, perceptual=0.06, style=36.0)
    fine.features = dict(
        model=dict(name="deeplabv3plus_efficientnet_lite0", options={}),
        init=dict(weights="efficientnet_lite0", source="efficientnet_lite"),
        layers=("stride4",),
        normalisation="efficientnet_lite",
    )
    fine.optimizer.lr = 0.1 * stage.optimizer.lr
    for key in [key for key in fine if key.startswith(("total_", "checkpoint_", "eval_")) and key != "eval_limit"]:
        fine[key] = fine[key] if key == "eval_split" else max(fine[key] // 4, 1)
    return fine


def shrink(config: ConfigDict, *, keep_data: bool = False) -> ConfigDict:
    """Shrinks any recipe to a minute, for CI: tiny synthetic street, 64-pixel crops, 3 steps per training stage."""
    if not keep_data:
        config.dataset = ConfigDict(synthetic_dataset(height=64, width=128, train=2, validation=1, test=1, frames=6))
    for name in config.stages:
        stage = config[name]
        if stage.get("dataset") and not keep_data:
            stage.dataset = ConfigDict(config.dataset.to_dict())
        if stage.kind in ("train", "train_video"):
            for key in [k for k in stage if k.startswith(("total_", "checkpoint_", "eval_"))]:
                del stage[key]
            stage.update(total_steps=3, checkpoint_steps=2, eval_steps=2, eval_limit=2, log_steps=1, batch_size=2)
            stage.crop.size = (64, 64)
            if "warmup_epochs" in stage.crop:
                stage.crop.warmup_epochs = min(stage.crop.warmup_epochs, 1)
            if "restart_epoch" in stage.optimizer.schedule:
                stage.optimizer.schedule.restart_epoch = 1
            stage.mesh = ConfigDict(dict(data=1, space=1))
        if stage.kind == "train" and stage.init.weights == "imagenet" and "efficientnet" not in stage.model.name:
            stage.init.weights = ""  # they would be downloaded; those of EfficientNet-Lite are in a package
        for extra in stage.get("extra", {}).values() if not keep_data else ():
            if isinstance(extra, ConfigDict) and "split" in extra:  # of coarse labels, which the street does not have
                extra.split = "train"
                if "dataset" in extra:
                    del extra["dataset"]
        if stage.kind == "pseudo_label":
            stage.update(batch_size=2, size=0, window=(), sheet_rows=1)
            if not keep_data:
                stage.unlabelled = ConfigDict(dict(street=dict(split="train", only="all")))
        if stage.kind == "train_video":
            stage.model.options.update(width=0.1, levels=3)
            stage.flow.measure = 2
        if stage.kind in ("train_video", "propagate") and not keep_data:
            stage.update(split="train", frame_step=0, **({"eval_split": "validation"} if "eval_split" in stage else {}))
        if stage.kind == "evaluate":
            stage.update(batch_size=2, protocol="single")  # other protocols enlarge the images
            if stage.window:
                stage.window = (64, 64)
    return config


def load(path: str | Path):
    """Returns the module of a recipe file."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(argv: list[str]) -> None:
    """Prints one command line for each training run in the sweeps of the recipes."""
    for path in argv:
        runs = []
        recipe = load(path) if Path(path).is_file() else sys.exit(f"there is no recipe {path}; recipes lie in configs/")
        recipe.sweep(lambda arg="", runs=runs, **overrides: runs.append((arg, overrides)))
        for number, (arg, overrides) in enumerate(runs):
            flags = "".join(f" --config.{key}={shlex.quote(str(value))}" for key, value in overrides.items())
            name = f"{path}:{arg}" if arg else path
            print(f"python main.py --config={name} --workdir=runs/{Path(path).stem}-{number}{flags}")


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit("usage: python -m configs.common RECIPE.py ..."))
