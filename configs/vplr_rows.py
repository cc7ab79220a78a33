"""Stages of the rows of vplr_ablation.py: propagated labels, training runs and their scores."""

from ml_collections import ConfigDict

from configs import ablation, common, vplr


def recipe(arg, own, **more):
    """Returns the recipe of configs/vplr.py with the options of the ablation, and with others."""
    preset = "camvid" if arg.preset == "video" else arg.preset
    options = dict(preset=preset, net=own.net, data=arg.data, batch=own.batch)
    return vplr.get_config(ablation.arguments(**options, **more))


def shifts(method):
    """Returns whether a row has true labels that are moved by smooth random fields of N pixels: shiftN."""
    return method.startswith("shift")


def add_propagation(config, arg, own, method, warp, split, curve, to):
    """Adds the stages that propagate the labels of a split, unless they are there; returns the name of the last one."""
    name = "_".join(filter(None, ("propagate", method, warp))) + curve
    if name in config:
        return name
    bound = method == "truth" or shifts(method)
    found = recipe(arg, own, propagate="flow" if bound else method, k=max(own.places), frames=arg.frames)
    small = config.dataset.train.startswith("validation")
    step = 0 if small else found.propagate.frame_step
    if "train_video" in found:
        if small:
            video = common.train_video_small((160, 224), steps=600, eval_limit=10)
            video["model"]["name"] = found.train_video.model.name
            found.train_video = ConfigDict(video)
        held_out = config.dataset.validation if small else found.train_video.eval_split
        found.train_video.update(split=config.dataset.train, eval_split=held_out, frame_step=step)
        found.propagate.checkpoint = ablation.add_to(to, config, f"train_video_{method}", found.train_video)
    modes = ("lp",) if bound else {mode: 0 for m, mode, w in own.rows if (m, w) == (method, warp)}
    found.propagate.update(modes=tuple(modes), split=split, frame_step=step)
    if bound:
        found.propagate.method = "truth"
        if shifts(method):
            found.propagate.label_shift = float(method.removeprefix("shift"))
    else:
        found.propagate.score = own.true_labels
        if warp or own.warps:
            found.propagate.rgb_warp = warp or own.warps[0]
    return ablation.add_to(to, config, name, found.propagate)


def add_runs(config, first, name, to, *, own, split, loss, extra=None, times=1):
    """Adds a training run and its evaluation for each seed. Returns the names of the evaluations.

    split: of the labels, "" = the training split of the recipe. times: how many times the steps of other runs.
    """
    evaluations = []
    for seed in range(own.seeds):
        stages = first.copy_and_resolve_references()
        train, evaluate = stages.train, stages.evaluate
        train.seed, train.keep = seed, 1
        if split:
            train.dataset = dict(config.dataset.to_dict(), train=split)
        if loss == "plain":
            train.loss.main.name, train.loss.main.options = "cross_entropy", ConfigDict()
        if extra:
            train.extra = extra
        set_work(train, own, copies=1 + 2 * len(extra["steps"]) if extra else 1, times=times)
        evaluate.checkpoint = ablation.add_to(to, config, f"train_{name}_seed{seed}", train)
        evaluations.append(ablation.add_to(to, config, f"evaluate_{name}_seed{seed}", evaluate))
    return tuple(evaluations)


def set_work(train, own, *, copies, times):
    """Sets the length: `own.steps`, or epochs. An epoch is `copies` times as long as one of labels alone."""
    for unit in ("total", "checkpoint", "eval"):
        epochs = train[f"{unit}_epochs"] * times
        if own.steps and own.work == "steps":
            del train[f"{unit}_epochs"]
            train[f"{unit}_steps"] = own.steps * times
        else:
            train[f"{unit}_epochs"] = max(epochs // (copies if own.work == "steps" else 1), 1)
    if own.steps and own.work == "steps":
        train.checkpoint_steps = max(own.steps // 2, 1)


def add_other_frames(config, own):
    """Adds scores on the frames of the video without label; networks may have seen them with propagated labels."""
    labelled = sorted({row for _, every in own.counts for row in range(every // 2, own.labels, every)})
    edges = [-1, *labelled, own.labels]
    pieces = [(low + 1, high) for low, high in zip(edges, edges[1:]) if low + 1 < high]
    split = "+".join(f"validation[{low}:{high}]" for low, high in pieces)
    for name in [name for name in config.stages if name.startswith("evaluate_")]:
        other = name.replace("evaluate_", "other_", 1)
        config[other] = config[name].copy_and_resolve_references()
        config[other].split = split
        at = config.stages.index(name) + 1
        config.stages = (*config.stages[:at], other, *config.stages[at:])
    for name in [name for name in config.stages if config[name].kind == "compare"]:
        table = config[name].to_dict()
        rename = lambda stages: tuple(stage.replace("evaluate_", "other_", 1) for stage in stages)  # noqa: E731
        table["cells"] = tuple(dict(cell, stages=rename(cell["stages"])) for cell in table["cells"])
        table["title"] = table["title"].replace("scores on test", "scores on its frames without label (transductive)")
        config[f"{name}_video"] = table
        at = config.stages.index(name) + 1
        config.stages = (*config.stages[:at], f"{name}_video", *config.stages[at:])
