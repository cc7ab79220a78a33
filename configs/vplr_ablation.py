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

k: how far labels are propagated, +-k. rows: truth; shiftN, true labels moved by smooth random fields of N pixels; or
METHOD_MODE, with METHOD reconstruction, prediction or flow, and MODE jp (the propagated image) or lp (the real frame).
relaxed: rows that are also trained with label relaxation, as the baseline is then. seeds: number of seeds; -1 here and
below = that of the preset. labels: numbers of labels, a curve; as near as every Nth label gives. every: keep every Nth
label, 0 or 1 = all. sets: each, the frames at +-k alone; all, those within it (accumulated, table 6); each+all: both in
one table. steps: of each training run, 0: the epochs of the preset.
work: steps, the same for all rows; epochs, as in the paper, so that more labels are more steps. longer: the baseline
also at so many times the steps, 0 = not. warp: how images are moved (rgb_warp of the stage propagate); several for a
row each. strict: relaxed rows keep thin classes to their own class. boundary: scores pixels near outlines too. init:
imagenet, random, or a run to start from. crop: HEIGHTxWIDTH. The other options are those of vplr.py. Results:
docs/propagation.md.
"""

from ml_collections import ConfigDict

from configs import ablation, common, vplr, vplr_rows

MODES = ("jp", "lp")
WARPS = ("composed", "composed_bicubic", "composed_lanczos", "bilinear", "reference")
RULE = (
    "No row with propagated labels is run unless truth minus baseline is at least 3 standard errors; a row differs if "
    "the 95 % interval of the differences, paired by seed, excludes 0."
)
PROPAGATED = "prediction_lp+prediction_jp+reconstruction_jp+flow_jp"  # table 2, and figure 5b
PRESETS = {
    "synthetic": dict(
        k="1+3", net="fastscnn", steps=400, batch=8, seeds=4, longer=3, labels=64, true_labels=True,
    ),
    "video": dict(
        k="10", net="efficientnet", steps=300, batch=4, seeds=5, longer=3, labels=101, every=20, sets="all",
        true_labels=True, rows="truth+reconstruction_lp+reconstruction_jp", relaxed="",
        warp="bilinear+composed+composed_bicubic",
    ),
    "camvid": dict(
        k="1+4", net="efficientnet", steps=150, batch=4, longer=3, labels=60, every=10, true_labels=True,
    ),
    "cityscapes": dict(k="1+3", net="rnx50", batch=16, labels=2975, rows=PROPAGATED),
    "kitti": dict(k="1+3", net="rnx50", batch=16, labels=160, rows=PROPAGATED),
}  # fmt: skip
DEFAULTS = dict(every=0, steps=0, seeds=3, longer=0, relaxed="reconstruction_jp", warp="", sets="each")
DEFAULTS.update(rows=f"truth+{PROPAGATED}", true_labels=False)  # true_labels: of all frames
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
    seeds=-1,
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
    sets="",
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
            found = vplr_rows.add_runs(config, first, f"baseline{curve}_{loss}", early, **run)
            add_cell("baseline", loss, labels if curve else 0, found, "baseline", tables=(cells, bounds))
            if own.longer:
                name, series = f"baseline_x{own.longer}{curve}_{loss}", f"baseline, {own.longer} x steps"
                longer = vplr_rows.add_runs(config, first, name, early, times=own.longer, **run)
                at = labels if curve else 0
                add_cell(series, loss, at, longer, origin, tables=(cells,), group="baseline")
            for method, mode, warp in own.rows if loss == "plain" else own.relaxed:
                to, tables = (early, (cells, bounds)) if method == "truth" else (late, (cells,))
                stage = vplr_rows.add_propagation(config, arg, own, method, warp, split, curve, to)
                series = name_of(method, mode, warp)
                names = {within: f"{series}, accumulated" if within and own.both else series for _, within in own.shown}
                for name in () if curve else names.values():
                    add_cell(name, loss, 0, found, origin, tables=tables)
                for k, within in own.shown:
                    extra = dict(stage=stage, mode=mode, steps=tuple(range(1, k + 1)) if within else (k,))
                    row = "_".join(filter(None, (method, mode, warp, f"{'all' if within else 'k'}{k}")))
                    runs = vplr_rows.add_runs(config, first, f"{row}{curve}_{loss}", to, extra=extra, **run)
                    add_cell(names[within], loss, labels if curve else k, runs, origin, tables=tables)
    headroom = ("headroom",) if any(method == "truth" for method, *_ in own.rows) and late else ()
    config.stages = (*ablation.by_seed(early), *headroom, *ablation.by_seed(late), "compare")
    columns = ("miou", "trimap_miou.5", "inside_miou.5") if arg.boundary else ("miou",)
    axis = "labels" if len(own.counts) > 1 else "frames from the label, k"
    shared = dict(kind="compare", axis=axis, baseline="baseline", columns=columns, rule=RULE)
    for name in (*headroom, "compare"):
        config[name] = dict(
            shared, title=title(config, first, own), cells=tuple(bounds if headroom == (name,) else cells)
        )
    if arg.preset == "video":
        vplr_rows.add_other_frames(config, own)
    return shrink(config) if arg.debug else config


def read_options(arg, given):
    """Returns the options as values: those given, else those of the preset."""
    own = {**DEFAULTS, **PRESETS[common.pick("preset", arg.preset, PRESETS)]}
    if arg.frames:  # the original videos: lengths of the preset are for the small tree
        own.update(steps=0, every=0, true_labels=False, rows=PROPAGATED)
    own.update({name: arg[name] for name in ("every", "steps", "longer", "seeds") if arg[name] >= 0})
    own.update({name: arg[name] for name in ("k", "net", "batch", "rows", "sets") if arg[name]})
    own.update({name: arg[name] for name in ("relaxed", "warp") if name in given})  # empty: none
    if arg.frames and arg.preset not in ("camvid", "kitti"):
        raise ValueError(f"recipe option frames={arg.frames} is for the presets camvid and kitti.")
    if arg.labels and arg.every >= 0:
        raise ValueError("the recipe options labels and every both choose labels; give one of them.")
    if arg.work == "epochs" and arg.steps > 0:
        raise ValueError(f"recipe option steps={arg.steps} belongs to work=steps; leave it out with work=epochs.")
    if own["seeds"] < 1:
        raise ValueError(f"recipe option seeds={own['seeds']} must be 1 or more.")
    counts = sorted({ablation.read_number("labels", word) for word in filter(None, arg.labels.split("+"))})
    if counts and counts[-1] > own["labels"]:
        raise ValueError(f"recipe option labels={arg.labels} asks for more than the {own['labels']} of {arg.preset}.")
    places = sorted({ablation.read_number("k", word) for word in own["k"].split("+")})
    own["warps"] = tuple(common.pick("warp", word, WARPS) for word in filter(None, own["warp"].split("+")))
    own["relaxed"] = read_rows("relaxed", own["relaxed"], own["warps"])
    own["rows"] = tuple(dict.fromkeys((*read_rows("rows", own["rows"], own["warps"]), *own["relaxed"])))
    own["places"] = tuple(places[-1:] if len(counts) > 1 else places)  # with a curve, the axis is the number of labels
    sets = {common.pick("sets", word, ("each", "all")) for word in own["sets"].split("+")}
    own["both"] = len(sets) == 2
    of_set = {"each": own["places"], "all": [k for k in own["places"] if k > 1 or not own["both"]]}  # the same at 1
    own["shown"] = tuple((k, name == "all") for name in of_set if name in sets for k in of_set[name])
    own["counts"] = tuple((count, max(round(own["labels"] / count), 1)) for count in counts)
    own["counts"] = own["counts"] or ((own["labels"], own["every"] or 1),)
    return ConfigDict(dict(own, work=common.pick("work", arg.work, ("steps", "epochs"))))


def start(arg, own):
    """Returns (the recipe without stages, that of configs/vplr.py whose training and evaluation all rows share)."""
    config = vplr_rows.recipe(arg, own, propagate="none")
    if arg.preset == "synthetic":  # a small Cityscapes: the label in the middle, and as many frames on either side
        size = dict(height=192, width=384, train=64, validation=8, test=60, frames=11, labelled_every=11)
        config.dataset.options = size
    elif arg.preset == "video":  # of which every frame is known, and a few labels
        config.dataset.update(train="validation", validation="", test="test")
        config.train.crop.size = (264, 320)  # halves as 360 does, see common.camvid_on_cpu
    elif arg.preset == "camvid" and not arg.frames:
        config.dataset.update(train="validation[:60]", validation="validation[60:]", test="validation[60:]")
        config.train.crop.size = (264, 320)
    else:  # neighbouring frames are stored apart, and CamVid's have another size
        full = vplr_rows.recipe(arg, own, propagate="flow", k=own.places[-1], frames=arg.frames)
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


def title(config, first, own):
    """Returns the title of the tables, with the rule of relaxed rows."""
    text = f"{config.dataset.name} {config.dataset.train}, scores on {config.dataset[first.evaluate.split]}"
    if own.relaxed:
        text += f"; relaxed but for {', '.join(own.strict)}" if own.strict else "; relaxed in all classes"
    return text


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
        if word == "truth" or vplr_rows.shifts(word):
            if word != "truth":
                ablation.read_number("shift", word.removeprefix("shift"))
            rows.append((word, "lp", ""))
            continue
        method = common.pick(f"{option}: method", method, (*vplr.METHODS, "truth"))
        mode = common.pick("mode", mode, MODES)
        rows += [(method, mode, warp) for warp in (warps if len(warps) > 1 and mode == "jp" else ("",))]
    return tuple(dict.fromkeys(rows))


def name_of(method, mode, warp):
    """Returns the name of a row in the tables."""
    if method == "truth" or vplr_rows.shifts(method):
        return method
    return f"{method} + {mode.upper()}{f', {warp}' if warp else ''}"


def sweep(add):
    """Adds the label curve of the bound: where it leaves room, the other rows are worth running."""
    add("labels=8+16+32+64,rows=truth,relaxed=,longer=3")
    add("video,rows=truth")
