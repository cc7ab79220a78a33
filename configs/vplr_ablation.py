"""When do propagated and relaxed labels pay? VPLR's ablations (Zhu et al., CVPR 2019; table 2, table 3 top, figure 4).

    python main.py --config=configs/vplr_ablation.py                 a small Cityscapes: street, one label in 11 frames
    python main.py --config=configs/vplr_ablation.py:labels=8+16+32+64,rows=truth   first: how many labels leave room
    python main.py --config=configs/vplr_ablation.py:video           one's own video: CamVid's clip with 5 of 101 labels
    python main.py --config=configs/vplr_ablation.py:camvid          CamVid's clip cut in two: 6 of 60 labels, 41 scored
    python main.py --config=configs/vplr_ablation.py:cityscapes,data=DIR,k=1+2+3+4+5   the paper's; accelerators
    python main.py --config=configs/vplr_ablation.py:rows=truth+reconstruction_jp,k=1,seeds=1,steps=100    a quick one

Every training run is a stage, followed by its evaluation; all share the video networks and the propagated labels. The
baseline and the bound (`truth`: true labels in place of propagated ones) come first, then the stage `headroom`, which
compares the two: no other row is worth running unless truth minus baseline is at least 3 standard errors. The same
command resumes after a kill. With more seeds, other methods or further k below the largest one it trains only what is
new. A larger k, or the other mode of a method, propagates the labels again and needs a new --workdir. The last stage
writes compare/table.md, table.csv, curves.png and more: mean and sample standard deviation, differences to the baseline
with the same loss, paired by seed, with their 95 % interval, and the difference that so many seeds can show.

k: how far labels are propagated, +-k. rows: truth, or METHOD_MODE; METHOD is reconstruction, prediction or flow, MODE
is jp (the propagated image) or lp (the real frame). relaxed: rows that are also trained with label relaxation, as the
baseline is then. seeds: number of seeds. labels: numbers of labels, a curve; as near as every Nth label gives. every:
keep every Nth label, 0 or 1 = all. accumulated: show all frames within k. steps: of each training run, 0: the epochs of
the preset. work: steps, the same number for all rows; epochs, as in the paper, so that more labels are more steps.
longer: the baseline also at so many times the steps, 0 = not. warp: how images are moved (rgb_warp of the stage
propagate); several for a row each. strict: relaxed rows keep thin classes to their own class. boundary: scores pixels
near outlines too. init: imagenet, random, or a run to start from. crop: HEIGHTxWIDTH. The other options are those of
vplr.py. Results: docs/propagation.md.
"""

from types import SimpleNamespace

from ml_collections import ConfigDict

from configs import ablation, common, vplr

MODES = ("jp", "lp")
WARPS = ("composed", "composed_bicubic", "composed_lanczos", "bilinear", "reference")
RULE = (
    "No row with propagated labels is run unless truth minus baseline is at least 3 standard errors; a row differs if "
    "the 95 % interval of the differences, paired by seed, excludes 0."
)
PROPAGATED = "prediction_lp+prediction_jp+reconstruction_jp+flow_jp"  # table 2, and figure 5b
PRESETS = {
    "synthetic": dict(k="1+3", net="fastscnn", steps=400, batch=8, seeds=4, longer=3, labels=64),
    "video": dict(
        k="10", net="efficientnet", steps=300, batch=4, seeds=5, longer=3, labels=101, every=20, accumulated=True,
        rows="truth+reconstruction_lp+reconstruction_jp", relaxed="", warp="bilinear+composed+composed_bicubic",
    ),
    "camvid": dict(k="1+4", net="efficientnet", steps=150, batch=4, longer=3, labels=60, every=10),
    "cityscapes": dict(k="1+3", net="rnx50", batch=16, labels=2975, rows=PROPAGATED),
    "kitti": dict(k="1+3", net="rnx50", batch=16, labels=160, rows=PROPAGATED),
}  # fmt: skip
DEFAULTS = dict(every=0, steps=0, seeds=3, longer=0, relaxed="reconstruction_jp", warp="", accumulated=False)
DEFAULTS["rows"] = f"truth+{PROPAGATED}"
# classes whose pixels are mostly outline, see configs/common.py
STRICT = {
    "camvid": {2: "pole", 6: "sign", 9: "pedestrian", 10: "bicyclist"},
    "cityscapes": {5: "pole", 6: "light", 7: "sign", 11: "person", 12: "rider", 17: "motorcycle", 18: "bicycle"},
}
SHIPPED = (
    "rows=truth+reconstruction_jp,k=1,seeds=1,longer=0",
    "camvid,net=fastscnn,rows=flow_lp,relaxed=,k=1,seeds=1,longer=0",
    "video,net=fastscnn,rows=truth,k=1,seeds=1,longer=0",
)
SLOW = SHIPPED[:1]  # debug runs that take more than a minute

OPTIONS = dict(
    preset="synthetic",
    net="",
    data="",
    k="",
    rows="",
    relaxed="",
    seeds=0,
    labels="",
    every=-1,
    steps=-1,
    work="steps",
    longer=-1,
    batch=0,
    crop="",
    frames="",
    warp="",
    init="",
    strict=True,
    boundary=False,
    accumulated=False,
    debug=False,
)


def get_config(arg=None):
    given = {part.partition("=")[0] for part in (arg or "").split(",")}
    arg = common.parse_arg(arg, **OPTIONS)
    own = read_options(arg, given)
    config, first = start(arg, own)
    early, late = [], []  # stages before the headroom is known, and after
    cells, bounds = [], []  # of the table of all rows, and of that of the headroom

    def add_cell(series, loss, at, runs, baseline, *, tables, group=""):
        """Adds a cell: a dashed line, and with label relaxation a solid one of the same colour, as in figure 4."""
        suffix, style = (", relaxed", "solid") if loss == "relaxed" else ("", "dashed")
        for table in tables:
            look = dict(group=group or series, style=style, baseline=baseline)
            table.append(dict(series=f"{series}{suffix}", at=at, stages=runs, **look))

    for labels, every in own.counts:
        curve = f"_n{labels}" if len(own.counts) > 1 else ""
        split = f"{config.dataset.train}::{every}" if curve and every > 1 else config.dataset.train
        for loss in ("plain", "relaxed") if own.relaxed else ("plain",):
            origin = "baseline, relaxed" if loss == "relaxed" else "baseline"  # propagated labels are what differs
            run = dict(own=own, split=split if curve else "", loss=loss)
            found = add_runs(config, first, f"baseline{curve}_{loss}", early, **run)
            add_cell("baseline", loss, labels if curve else 0, found, "baseline", tables=(cells, bounds))
            if own.longer:
                longer = add_runs(
                    config, first, f"baseline_x{own.longer}{curve}_{loss}", early, times=own.longer, **run
                )
                series, at = f"baseline, {own.longer} x steps", labels if curve else 0
                add_cell(series, loss, at, longer, origin, tables=(cells,), group="baseline")
            for method, mode, warp in own.rows if loss == "plain" else own.relaxed:
                to, tables = (early, (cells, bounds)) if method == "truth" else (late, (cells,))
                stage = add_propagation(config, arg, own, method, warp, split, curve, to)
                series = name_of(method, mode, warp)
                if not curve:
                    add_cell(series, loss, 0, found, origin, tables=tables)
                for k in own.places:
                    shown = tuple(range(1, k + 1)) if own.accumulated else (k,)
                    extra = dict(stage=stage, mode=mode, steps=shown)
                    row = "_".join(filter(None, (method, mode, warp, f"{'all' if own.accumulated else 'k'}{k}")))
                    runs = add_runs(config, first, f"{row}{curve}_{loss}", to, extra=extra, **run)
                    add_cell(series, loss, labels if curve else k, runs, origin, tables=tables)
    headroom = ("headroom",) if any(method == "truth" for method, *_ in own.rows) and late else ()
    config.stages = (*ablation.by_seed(early), *headroom, *ablation.by_seed(late), "compare")
    columns = ("miou", "trimap_miou.5") if arg.boundary else ("miou",)
    axis = "labels" if len(own.counts) > 1 else "frames from the label, k"
    shared = dict(kind="compare", axis=axis, baseline="baseline", columns=columns, rule=RULE)
    for name in (*headroom, "compare"):
        config[name] = dict(
            shared, title=title(config, first, own), cells=tuple(bounds if headroom == (name,) else cells)
        )
    if arg.preset == "video":
        add_other_frames(config, own)
    return shrink(config) if arg.debug else config


def read_options(arg, given):
    """Returns the options as values: those given, else those of the preset."""
    own = {**DEFAULTS, **PRESETS[common.pick("preset", arg.preset, PRESETS)]}
    if arg.frames:  # the original videos: lengths of the preset are for the small tree
        own.update(steps=0, every=0)
    own.update({name: arg[name] for name in ("every", "steps", "longer") if arg[name] >= 0})
    own.update({name: arg[name] for name in given if name in ("k", "net", "batch", "seeds", "accumulated")})
    text = {name: arg[name] if name in given else own[name] for name in ("rows", "relaxed", "warp")}
    own = SimpleNamespace(**own, work=common.pick("work", arg.work, ("steps", "epochs")))
    if own.seeds < 1:
        raise ValueError(f"recipe option seeds={own.seeds} must be 1 or more.")
    own.warps = tuple(common.pick("warp", word, WARPS) for word in filter(None, text["warp"].split("+")))
    own.relaxed = read_rows("relaxed", text["relaxed"], own.warps)
    own.rows = tuple(dict.fromkeys((*read_rows("rows", text["rows"], own.warps), *own.relaxed)))
    own.places = tuple(sorted({ablation.read_number("k", word) for word in own.k.split("+")}))
    counts = sorted({ablation.read_number("labels", word) for word in filter(None, arg.labels.split("+"))})
    if counts and counts[-1] > own.labels:
        raise ValueError(f"recipe option labels={arg.labels} asks for more than the {own.labels} of {arg.preset}.")
    if len(counts) > 1:
        own.places = own.places[-1:]  # the axis is the number of labels
    own.counts = tuple((count, max(round(own.labels / count), 1)) for count in counts)
    own.counts = own.counts or ((own.labels, own.every or 1),)
    return own


def start(arg, own):
    """Returns (the recipe without stages, that of configs/vplr.py whose training and evaluation all rows share)."""
    base = dict(preset="camvid" if arg.preset == "video" else arg.preset, net=own.net, data=arg.data, batch=own.batch)
    config = recipe(base, propagate="none")
    if arg.preset == "synthetic":  # a small Cityscapes: the label in the middle, and as many frames on either side
        size = dict(height=192, width=384, train=64, validation=8, test=60, frames=11, labelled_every=11)
        config.dataset.options = size
    elif arg.preset == "video":  # of which every frame is known, and a few labels
        config.dataset.update(train="validation", validation="", test="test")
        config.train.crop.size = (264, 320)  # halves as 360 does, see common.camvid_on_cpu
    elif arg.preset == "camvid" and not arg.frames:
        config.dataset.update(train="validation[:60]", validation="validation[60:]", test="validation[60:]")
        config.train.crop.size = (264, 320)
    elif arg.frames:
        full = recipe(base, propagate="flow", k=own.places[-1], frames=arg.frames)
        config.dataset.options, config.train.crop = full.dataset.options, full.train.crop
        config.evaluate.window = full.evaluate.window
    if arg.crop:
        config.train.crop.size = ablation.read_size("crop", arg.crop)
    if len(own.counts) == 1 and own.counts[0][1] > 1:
        config.dataset.train = f"{config.dataset.train}::{own.counts[0][1]}"  # all frames stay, one of N labels
    table = STRICT["camvid" if config.dataset.name == "camvid" else "cityscapes"]
    own.strict = tuple(table.values()) if arg.strict else ()
    config.train.loss.main.options = dict(strict_classes=tuple(table)) if arg.strict else {}
    config.evaluate.boundary = arg.boundary
    if arg.init in ("imagenet", "random"):
        config.train.init.weights = arg.init.replace("random", "")
    elif arg.init:
        config.train.init.update(weights="", checkpoint=arg.init)
    first = config.copy_and_resolve_references()
    for name in first.stages:
        del config[name]
    config.stages = ()
    return config, first


def recipe(options, **more):
    """Returns the recipe of configs/vplr.py with these options."""
    return vplr.get_config(ablation.arguments(**options, **more))


def add_propagation(config, arg, own, method, warp, split, curve, to):
    """Adds the stages that propagate the labels of a split, unless they are there; returns the name of the last one."""
    name = "_".join(filter(None, ("propagate", method, warp))) + curve
    if name in config:
        return name
    base = dict(preset="camvid" if arg.preset == "video" else arg.preset, net=own.net, data=arg.data, batch=own.batch)
    bound = method == "truth"
    found = recipe(base, propagate="flow" if bound else method, k=max(own.places), frames=arg.frames)
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
        found.propagate.method = method
    elif warp or own.warps:
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


def title(config, first, own):
    """Returns the title of the tables, with the rule of relaxed rows."""
    text = f"{config.dataset.name} {config.dataset.train}, scores on {config.dataset[first.evaluate.split]}"
    if own.relaxed:
        text += f"; relaxed but for {', '.join(own.strict)}" if own.strict else "; relaxed in all classes"
    return text


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


def shrink(config):
    """Returns the debug recipe; splits of one's own video do not fit the tiny street."""
    for name in config.stages:
        if config[name].kind == "evaluate":
            config[name].split = "test"
    return common.shrink(config)


def read_rows(option, text, warps=()):
    """Returns the rows (method, mode, warp) of a text such as "truth+reconstruction_jp+flow_lp".

    warps: with several, each row with propagated images is repeated for each.
    """
    rows = []
    for word in filter(None, text.split("+")):
        method, _, mode = word.partition("_")
        if word == "truth":
            rows.append(("truth", "lp", ""))
            continue
        method = common.pick(f"{option}: method", method, (*vplr.METHODS, "truth"))
        mode = common.pick("mode", mode, MODES)
        rows += [(method, mode, warp) for warp in (warps if len(warps) > 1 and mode == "jp" else ("",))]
    return tuple(dict.fromkeys(rows))


def name_of(method, mode, warp):
    """Returns the name of a row in the tables."""
    return "truth" if method == "truth" else f"{method} + {mode.upper()}{f', {warp}' if warp else ''}"


def sweep(add):
    """Adds the label curve of the bound: where it leaves room, the other rows are worth running."""
    add("labels=8+16+32+64,rows=truth,relaxed=,longer=3")
    add("video,rows=truth")
