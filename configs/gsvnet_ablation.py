"""What pays in GSVNet: short equal trainings for Tables 4, A5, A6 and Fig. 3 (Lee et al., ICIP 2021), with seeds.

    python main.py --config=configs/gsvnet_ablation.py                       the embedded street; hours of 2 CPU cores
    python main.py --config=configs/gsvnet_ablation.py:camvid                CamVid's one labelled video; two hours
    python main.py --config=configs/gsvnet_ablation.py:cityscapes,data=DIR   the paper's; accelerators

The same command resumes after a kill. With more seeds or other rows it trains only what is new. A seed has one keyframe
network for all rows. The last stage writes compare/table.md, table.csv and curves.png: the minimum and the average mIoU
at the longest interval, and differences to the row `base`, paired by seed, with 95 % intervals.

rows: joined by +, each with its number of seeds if it is not `seeds`, as in base*5+warp*3:
    base            the recipe of gsvnet.py
    warp, a_lite    its baselines, trained alike
    no_intra        without logits of the frame itself (Table 4)
    learned, large  kernels that are learned (Table A5), and 17 of them of 5x5 cells (Table A6)
    flownets        the optical flow of FlowNetS (Fig. 3)
    paper           the network as the paper describes it
    all_frames      a gradient for every frame of a snippet; mixed: another interval at each step
    no_teacher      without distillation
and of CamVid, what the propagation is trained on; all are measured on frames that none of them sees:
    base            the first 60 frames of the labelled video, at 15 Hz
    street          the embedded street in CamVid's classes, with a keyframe network of its own
    teacher         as base, without using a label
    videos          as teacher, and frames=DIR: a video, or a folder of videos
On CamVid, all seeds have one keyframe network, and frames=DIR adds the row videos to the usual ones. checkpoint, data,
interval, net, scale, stride and steps are those of gsvnet.py. See docs/gsvnet.md.
"""

from ml_collections import ConfigDict

from configs import ablation, common, gsvnet

ROWS = {
    "base": {},
    "warp": dict(model="warp"),
    "a_lite": dict(model="a_lite"),
    "no_intra": dict(options=dict(intra=False)),
    "learned": dict(options=dict(learn_kernels=True)),
    "large": dict(options=dict(learn_kernels=True, kernel_size=5)),
    "flownets": dict(options=dict(flow="flownets")),
    "paper": dict(options=dict(form="paper")),
    "all_frames": dict(stage=dict(gradient_steps=0)),
    "mixed": dict(stage=dict(order="mixed")),
    "no_teacher": dict(without="teacher"),
}
CAMVID_ROWS = {
    "street": dict(street=True),
    "teacher": dict(stage=dict(labels="teacher")),
    "videos": dict(stage=dict(labels="teacher")),
}
USUAL = "base+warp+a_lite+no_intra+learned+paper+no_teacher"
CAMVID_USUAL = "base+warp+a_lite+street+teacher"
RULE = "A row differs from base if the 95 % interval of the differences, paired by seed, excludes 0."

STREET_MAP = "synthetic_street_to_camvid"
STREET_STEPS = 300  # of the street's keyframe network

SHIPPED = ("rows=base,seeds=1", "", "camvid", "cityscapes")
SLOW = SHIPPED[1:]  # debug runs of many trainings

OPTIONS = dict(preset="synthetic", rows="", seeds=3, interval=5, net="", data="", scale=0.0, stride=0, steps=0)
OPTIONS.update(checkpoint="", frames="", debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    common.pick("preset", arg.preset, ("synthetic", "camvid", "cityscapes"))
    camvid = arg.preset == "camvid"
    usual = CAMVID_USUAL + "+videos" * bool(arg.frames) if camvid else USUAL
    rows = ablation.read_rows(arg.rows or usual, arg.seeds)
    for name in rows:
        common.pick("row", name, {**ROWS, **CAMVID_ROWS} if camvid else ROWS)
    if ("videos" in rows) != bool(arg.frames):
        raise ValueError("frames=DIR and the row videos of the preset camvid belong together; give both or none.")
    rows = ablation.with_baseline(rows, "base")
    if arg.debug:
        rows = dict.fromkeys(rows, 1)

    config = ConfigDict(dict(seed=0, stages=()))
    config.dataset = recipe(arg, {}).dataset
    cells = {}
    for seed in range(max(rows.values())):  # all of a seed first
        for name, seeds in rows.items():
            if seed < seeds:
                cells.setdefault(name, []).append(add_row(config, arg, name, seed))
    at = f"interval {2 if arg.debug else arg.interval}"
    cells = tuple(dict(series=name, at=at, stages=tuple(stages)) for name, stages in cells.items())
    config.compare = dict(kind="compare", baseline="base", rule=RULE, cells=cells, axis="keyframes", partial=False)
    shares = {"minimum": "minimum mIoU", "average": "average mIoU", "consistency": "steady"}
    columns = tuple(dict(key=key, label=label, percent=True) for key, label in shares.items())
    config.compare.update(columns=columns, band=True)
    config.compare.title = f"{config.dataset.name}, {arg.net or gsvnet.PRESETS[arg.preset][0]}"
    config.stages = (*config.stages, "compare")
    return config


def recipe(arg, row):
    """Returns the recipe of configs/gsvnet.py with these options."""
    names = ("preset", "net", "checkpoint", "data", "scale", "stride", "steps", "interval", "debug")
    return gsvnet.get_config(ablation.arguments(**{name: arg[name] for name in names}, model=row.get("model", "")))


def add_row(config, arg, name, seed):
    """Adds the stages of a row and seed that are not there yet; returns the name of its evaluation."""
    row = {**ROWS, **CAMVID_ROWS}[name]
    found = recipe(arg, row)
    stage, last = found.train_gsvnet, found.evaluate_video
    of_seed = f"_seed{0 if arg.preset == 'camvid' else seed}"
    keyframe = arg.checkpoint or add_keyframe(config, f"keyframe{of_seed}", found.train, seed)
    stage.update(seed=seed, keep=1, **row.get("stage", {}))
    stage.keyframe.checkpoint = keyframe
    stage.model.options.update(row.get("options", {}))
    if name == "videos":
        stage.frames = arg.frames
    if "without" in row:
        del stage.loss[row["without"]]
    if "street" in row:
        street = on_street(recipe(ConfigDict(dict(arg, checkpoint="")), row), arg)
        stage.keyframe.checkpoint = add_keyframe(config, f"keyframe_street{of_seed}", street.train, seed)
        stage.update(dataset=street.train.dataset, split="train")
        last.keyframe = keyframe
    trained = ablation.add(config, f"train_{name}_seed{seed}", stage)
    last.update(checkpoint=trained, baselines=("copy",), timed=0)
    return ablation.add(config, f"evaluate_{name}_seed{seed}", last)


def add_keyframe(config, name, stage, seed):
    """Adds the training of a keyframe network, unless it is there; returns its name."""
    stage.update(seed=seed, keep=1)
    return ablation.add(config, name, stage)


def on_street(found, arg):
    """Returns a recipe whose keyframe network is trained on the embedded street, at CamVid's size and classes."""
    size = {} if arg.debug else dict(height=360, width=480)
    options = found.dataset.options if arg.debug else size
    found.train.dataset = ConfigDict(dict(common.synthetic_dataset(**options), label_map=STREET_MAP))
    if not arg.debug:
        for key in [key for key in found.train if key.startswith(("total_", "checkpoint_", "eval_"))]:
            del found.train[key]
        found.train.update(total_steps=STREET_STEPS, checkpoint_steps=100)
    return found


def sweep(add):
    """Adds the studies of docs/gsvnet.md."""
    add("")
    add("camvid")
