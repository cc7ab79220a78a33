"""VPLR's ablations (Zhu et al., CVPR 2019; table 2, table 3 top, figures 4 and 5b) for any preset of configs/vplr.py.

    python main.py --config=configs/vplr_ablation.py                 the embedded street with a quarter of its labels
    python main.py --config=configs/vplr_ablation.py:camvid          the 15 Hz video of CamVid with 6 of 60 labels
    python main.py --config=configs/vplr_ablation.py:cityscapes,data=DIR,k=1+2+3+4+5   the paper's; accelerators
    python main.py --config=configs/vplr_ablation.py:rows=reconstruction_jp,k=1,seeds=1,steps=100   a quick one

Every training run is a stage, followed by its evaluation; all share the video networks and the propagated labels. The
same command resumes after a kill. With more seeds, other methods or further k below the largest one it trains only what
is new. A larger k, or the other mode of a method, propagates the labels again and needs a new --workdir. The last stage
writes compare/table.md, table.csv, curves.png and more: mean and sample standard deviation of the mIoU, and differences
to the baseline with the same loss, paired by seed, with their 95 % interval.

k: how far labels are propagated, +-k. rows: METHOD_MODE; METHOD is reconstruction, prediction or flow; MODE is jp (the
propagated image) or lp (the real frame). relaxed: rows that are also trained with label relaxation, as the baseline is
then. seeds: number of seeds. every: keep every Nth label, 0 or 1 = all. accumulated: show all frames within k.
steps: of each training run, the same for all; 0: those of the preset without propagated labels. crop: HEIGHTxWIDTH.
The other options are those of vplr.py. Results: docs/propagation.md.
"""

from ml_collections import ConfigDict

from configs import ablation, common, vplr

MODES = ("jp", "lp")
#            every  steps  k       batch  net
PRESETS = {
    "synthetic": (4, 400, "1+3", 8, "fastscnn"),
    "camvid": (10, 150, "1+4", 4, "efficientnet"),
    "cityscapes": (0, 0, "1+3", 16, "rnx50"),
    "kitti": (0, 0, "1+3", 16, "rnx50"),
}
ROWS = "prediction_lp+prediction_jp+reconstruction_jp+flow_jp"  # table 2, and figure 5b
SHIPPED = ("rows=reconstruction_jp,k=1,seeds=1", "camvid,net=fastscnn,rows=flow_lp,relaxed=,k=1,seeds=1")
SLOW = SHIPPED[:1]  # debug runs that take more than a minute

OPTIONS = dict(
    preset="synthetic",
    net="",
    data="",
    k="",
    rows=ROWS,
    relaxed="reconstruction_jp",
    seeds=3,
    every=-1,
    steps=-1,
    batch=0,
    crop="",
    frames="",
    accumulated=False,
    debug=False,
)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    every, steps, k, batch, net = PRESETS[common.pick("preset", arg.preset, PRESETS)]
    every, steps = (old if new < 0 else new for new, old in ((arg.every, every), (arg.steps, steps)))
    places = sorted({read_number("k", text) for text in (arg.k or k).split("+")})
    rows, relaxed = (read_rows(name, arg[name]) for name in ("rows", "relaxed"))
    if arg.seeds < 1:
        raise ValueError(f"recipe option seeds={arg.seeds} must be 1 or more.")
    rows += [row for row in relaxed if row not in rows]
    base = dict(preset=arg.preset, net=arg.net or net, data=arg.data, batch=arg.batch or batch)

    config = recipe(base, propagate="none")
    if arg.preset == "camvid" and not arg.frames:
        camvid_video(config)
    if arg.crop:
        config.train.crop.size = ablation.read_size("crop", arg.crop)
    if every > 1:
        config.dataset.train = f"{config.dataset.train}::{every}"  # all frames stay, one of `every` labels
    first = config.copy_and_resolve_references()
    for name in first.stages:
        del config[name]
    config.stages = ()
    for method in dict.fromkeys(method for method, _ in rows):
        found = recipe(base, propagate=method, k=max(places), frames=arg.frames)
        add_propagation(config, found, method, [mode for m, mode in rows if m == method])
    cells = []

    def add_cell(series, loss, at, stages, baseline):
        """Adds a cell: a dashed line, and with label relaxation a solid one of the same colour, as in figure 4."""
        suffix, style = (", relaxed", "solid") if loss == "relaxed" else ("", "dashed")
        look = dict(group=series, style=style, baseline=baseline)
        cells.append(dict(series=f"{series}{suffix}", at=at, stages=stages, **look))

    for loss in ("plain", "relaxed") if relaxed else ("plain",):
        found = add_runs(config, first, f"baseline_{loss}", loss, {}, steps, arg.seeds)
        add_cell("baseline", loss, 0, found, "baseline")
        own = "baseline, relaxed" if loss == "relaxed" else "baseline"  # propagated labels are what differs
        for method, mode in rows if loss == "plain" else relaxed:
            name = f"{method} + {mode.upper()}"
            add_cell(name, loss, 0, found, own)
            for at in places:
                shown = tuple(range(1, at + 1)) if arg.accumulated else (at,)
                extra = dict(stage=f"propagate_{method}", mode=mode, steps=shown)
                word = "all" if arg.accumulated else "k"
                runs = add_runs(config, first, f"{method}_{mode}_{word}{at}_{loss}", loss, extra, steps, arg.seeds)
                add_cell(name, loss, at, runs, own)
    config.compare = dict(kind="compare", axis="frames from the label, k", baseline="baseline", cells=tuple(cells))
    config.compare.title = (
        f"{config.dataset.name} {config.dataset.train}, scores on {config.dataset[first.evaluate.split]}"
    )
    runs = [name for name in config.stages if "seed" in config[name] or name.startswith("evaluate")]
    shared = [name for name in config.stages if name not in runs]
    runs = [name for seed in range(arg.seeds) for name in runs if name.endswith(f"_seed{seed}")]  # all of a seed first
    config.stages = (*shared, *runs, "compare")
    return common.shrink(config) if arg.debug else config


def recipe(options, **more):
    """Returns the recipe of configs/vplr.py with these options."""
    return vplr.get_config(ablation.arguments(**options, **more))


def camvid_video(config):
    """Splits the one contiguous video of the small tree into a part to train on and one to score; minutes on a CPU."""
    config.dataset.update(train="validation[:60]", validation="validation[60:]", test="validation[60:]")
    config.train.crop.size = (264, 320)  # halves as 360 does, see common.camvid_on_cpu


def add_propagation(config, found, method, modes):
    """Adds the stages of the recipe `found` that propagate labels; all training runs share them."""
    if config.dataset.train.startswith("validation"):
        if "train_video" in found:
            video = common.train_video_small((160, 224), steps=600, eval_limit=10)
            found.train_video = dict(video, model=found.train_video.model)
            found.train_video.model.options = video["model"]["options"]
        split, held_out, step = config.dataset.train, config.dataset.validation, 0
    else:
        config.dataset.options = found.dataset.options  # where the frames are
        split, step = found.propagate.split, found.propagate.frame_step
        held_out = found.get("train_video", {}).get("eval_split")
    if "train_video" in found:
        found.train_video.update(split=split, eval_split=held_out, frame_step=step)
        config[f"train_video_{method}"] = found.train_video
        found.propagate.checkpoint = f"train_video_{method}"
        config.stages = (*config.stages, f"train_video_{method}")
    found.propagate.update(modes=tuple(dict.fromkeys(modes)), split=split, frame_step=step)
    config[f"propagate_{method}"] = found.propagate
    config.stages = (*config.stages, f"propagate_{method}")


def add_runs(config, first, name, loss, extra, steps, seeds):
    """Adds a training run and its evaluation for each seed. Returns the names of the evaluations."""
    evaluations = []
    for seed in range(seeds):
        stages = first.copy_and_resolve_references()
        train, evaluate = stages.train, stages.evaluate
        train.seed = seed
        if loss == "plain":
            train.loss.main.name, train.loss.main.options = "cross_entropy", ConfigDict()
        if extra:
            train.extra = extra
        equal_work(train, steps, copies=1 + 2 * len(extra.get("steps", ())))
        train.keep = 1
        evaluate.checkpoint = f"train_{name}_seed{seed}"
        config[f"train_{name}_seed{seed}"] = train
        config[f"evaluate_{name}_seed{seed}"] = evaluate
        config.stages = (*config.stages, f"train_{name}_seed{seed}", f"evaluate_{name}_seed{seed}")
        evaluations.append(f"evaluate_{name}_seed{seed}")
    return tuple(evaluations)


def equal_work(train, steps, *, copies):
    """Sets the same steps for all training runs; their epochs are `copies` times as long as those of labels alone."""
    for unit in ("total", "checkpoint", "eval"):
        epochs = train[f"{unit}_epochs"]
        if steps:
            del train[f"{unit}_epochs"]
            train[f"{unit}_steps"] = steps
        else:
            train[f"{unit}_epochs"] = max(epochs // copies, 1)
    if steps:
        train.checkpoint_steps = max(steps // 2, 1)


def read_rows(option, text):
    """Returns the pairs of method and mode of a text such as "reconstruction_jp+flow_lp"."""
    rows = []
    for word in filter(None, text.split("+")):
        method, _, mode = word.partition("_")
        rows.append((common.pick(f"{option}: method", method, vplr.METHODS), common.pick("mode", mode, MODES)))
    return list(dict.fromkeys(rows))


def read_number(option, text):
    """Returns the whole number of a text. Raises ValueError unless it is 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"recipe option {option} holds {text!r}; write numbers from 1 with + between them, such as 1+3."
        )
    return int(text)


def sweep(add):
    """Adds runs with all labels and with parts of them: the fewer labels, the more propagated ones should help."""
    for every in (1, 4, 8):
        add(f"synthetic,every={every},rows=reconstruction_jp")
