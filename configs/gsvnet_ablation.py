"""What pays in GSVNet: short equal trainings for Tables 4, A5, A6 and Fig. 3 (Lee et al., ICIP 2021), with seeds.

    python main.py --config=configs/gsvnet_ablation.py                       the embedded street; hours of 2 CPU cores
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
interval, net, data, scale, stride and steps are those of gsvnet.py. See docs/gsvnet.md.
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
USUAL = "base+warp+a_lite+no_intra+learned+paper+no_teacher"
RULE = "A row differs from base if the 95 % interval of the differences, paired by seed, excludes 0."

SHIPPED = ("rows=base+warp,seeds=1", "", "cityscapes")
SLOW = SHIPPED[1:]  # debug runs of many trainings

OPTIONS = dict(preset="synthetic", rows=USUAL, seeds=3, interval=5, net="", data="", scale=0.0, stride=0, steps=0)
OPTIONS.update(debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    common.pick("preset", arg.preset, ("synthetic", "cityscapes"))
    rows = ablation.read_rows(arg.rows, arg.seeds)
    for name in rows:
        common.pick("row", name, ROWS)
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
    config.compare.update(columns=("minimum", "average", "consistency"), band=True)
    config.compare.title = f"{config.dataset.name}, {arg.net or gsvnet.PRESETS[arg.preset][0]}"
    config.stages = (*config.stages, "compare")
    return config


def recipe(arg, row):
    """Returns the recipe of configs/gsvnet.py with these options."""
    own = {name: arg[name] for name in ("preset", "net", "data", "scale", "stride", "steps", "interval", "debug")}
    return gsvnet.get_config(ablation.arguments(**own, model=row.get("model", "")))


def add_row(config, arg, name, seed):
    """Adds the stages of a row and seed that are not there yet; returns the name of its evaluation."""
    row = ROWS[name]
    found = recipe(arg, row)
    found.train.update(seed=seed, keep=1)
    keyframe = ablation.add(config, f"train_seed{seed}", found.train)
    stage = found.train_gsvnet
    stage.update(seed=seed, keep=1, **row.get("stage", {}))
    stage.keyframe.checkpoint = keyframe
    stage.model.options.update(row.get("options", {}))
    if "without" in row:
        del stage.loss[row["without"]]
    trained = ablation.add(config, f"train_{name}_seed{seed}", stage)
    last = found.evaluate_video
    last.update(checkpoint=trained, baselines=("copy",), timed=0)
    return ablation.add(config, f"evaluate_{name}_seed{seed}", last)


def sweep(add):
    """Adds the studies of docs/gsvnet.md."""
    add("")
