"""Does the student beat the teacher? CSST's ablations (v2, Tables 1 and 2; v1, Table 2) for presets of csst.py.

    python main.py --config=configs/csst_ablation.py                               the street with 1 of 4 labels
    python main.py --cpu_devices=2 --config=configs/csst_ablation.py:camvid        CamVid with 1 of 16; hours
    python main.py --config=configs/csst_ablation.py:cityscapes,data=DIR,seeds=5   the paper's; accelerators
    python main.py --config=configs/csst_ablation.py:camvid,rows=teacher+bound,seeds=1,steps=150,split=validation

The same command resumes after a kill. With more seeds or other rows it trains only what is new. All rows have the same
steps, and the rows of a seed the same labels: `train::N,first=SEED` (modulo N). The last stage writes compare/table.md,
table.csv, classes.csv and curves.png: mIoU, and differences to the teacher, paired by seed, with 95 % intervals.

rows: joined by +, each with its number of seeds if it is not `seeds`, as in teacher*5+bound*3:
    teacher, teacher_x2          labels only; twice the steps, as duplicated labels have (v2, Table 1b)
    bound                        all true labels: no pseudo label can be expected to pass it
    student7, student7_uniform   7 pseudo labels per real one, with and without centroid sampling
    student7_METHOD              a METHOD of csst.py: finetune, pretrain, soft, regulariser; consistency has no teacher
    pool7                        the pool are images of the folders and videos in `pool`, joined by +; of a name with a
                                 dot, as drive.mp4, every 5th
every: keep every Nth label. steps: of each training run; 0: those of the preset, or of csst.py. split: that is scored.
The other options are those of csst.py. Results: docs/self_training.md.
"""

from ml_collections import ConfigDict

from configs import ablation, common, csst

#             every  steps  rows
PRESETS = {
    "synthetic": (4, 0, "teacher+student3+bound"),
    "camvid": (16, 300, "teacher*5+student7*5+bound*3+teacher_x2*3+student7_uniform*3+student1*3+student3*3"),
    "cityscapes": (0, 0, "teacher+teacher_x2+student1+student2+student4+student13"),
}
NETS = {"camvid": "efficientnet"}
POOL_SIZES = {"camvid": 360, "cityscapes": 1024}  # short side of the images that the teacher was trained on
LABELS_ONLY = ("teacher", "teacher_x2", "bound")
RULE = "A row beats the teacher if the 95 % interval of its differences, paired by seed, is above 0."
NO_RATIO = "no pseudo labels"

ALTERNATIVES = "+".join(f"student1_{method}" for method in csst.METHODS[1:])
SHIPPED = ("", "camvid", f"rows={ALTERNATIVES}+bound,seeds=1", "cityscapes")
SLOW = ("", "camvid", "cityscapes")  # debug runs that take more than a minute, or have the same stages as the other

OPTIONS = dict(
    preset="synthetic", net="", data="", rows="", seeds=3, every=-1, steps=0, batch=0, split="", pool="", debug=False
)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    every, steps, rows = PRESETS[common.pick("preset", arg.preset, PRESETS)]
    arg.every = every if arg.every < 0 else arg.every
    arg.steps = arg.steps or steps
    arg.net = arg.net or NETS.get(arg.preset, "")
    rows = ablation.with_baseline(ablation.read_rows(arg.rows or rows, arg.seeds), "teacher")
    rows = {name: (read_row(name, arg), seeds) for name, seeds in rows.items()}
    if arg.debug:
        rows = {name: (row, 1) for name, (row, _) in rows.items()}

    config = ConfigDict(dict(seed=0, stages=()))
    config.dataset = recipe(arg).dataset
    config.dataset.train = config.dataset.train.partition("::")[0]
    for seed in range(max(seeds for _, seeds in rows.values())):  # all of a seed first
        for name, (row, seeds) in rows.items():
            if seed < seeds:
                add_row(config, arg, name, row, seed)
    cells = []
    for name, ((kind, ratio, variant), seeds) in sorted(rows.items(), key=lambda row: row[1][0][1]):  # by ratio
        stages = tuple(f"evaluate_{name}_seed{seed}" for seed in range(seeds))
        series = " ".join(filter(None, ("student" if ratio else kind, "of a foreign pool" * (kind == "pool"), variant)))
        cells.append(dict(series=series, at=f"{ratio}:1" if ratio else NO_RATIO, stages=stages))
    config.compare = dict(kind="compare", axis="pseudo : real", baseline="teacher", rule=RULE, cells=tuple(cells))
    config.compare.update(band=True, partial=False, columns=("miou", "checkpoint.seconds"))
    labels = f"1 of {arg.every} labels" if arg.every > 1 else "all labels"
    config.compare.title = f"{config.dataset.name}, {labels}, scores on {config[config.stages[-1]].split}"
    config.stages = (*config.stages, "compare")
    return common.shrink(config) if arg.debug else config


def read_row(name, arg):
    """Returns (kind, ratio, variant) of the name of a row. Raises ValueError for one that does not exist."""
    if name in LABELS_ONLY:
        if name == "bound" and arg.every < 2:
            raise ValueError("the row bound needs every=N: it is trained on the labels that the teacher does not see.")
        return name, 0, ""
    word, _, variant = name.partition("_")
    kind = word.rstrip("0123456789")
    ratio = word[len(kind) :]
    if kind not in ("student", "pool") or not ratio or int(ratio) < 1:
        raise ValueError(f"recipe option rows names {name!r}; write for example teacher+student7_uniform*3.")
    if kind == "student" and arg.preset != "cityscapes" and arg.every < 2:
        raise ValueError(
            f"the row {name} needs every=N: its pool are the images whose labels the teacher does not see."
        )
    if variant:
        common.pick("variant of a row", variant, ("uniform", *csst.METHODS))
    if kind == "pool" and not arg.pool:
        raise ValueError(f"the row {name} needs pool=FOLDER_OR_VIDEO, several joined by +.")
    return kind, int(ratio), variant


def recipe(arg, **more):
    """Returns the recipe of configs/csst.py with these options."""
    own = dict(preset=arg.preset, net=arg.net, data=arg.data, steps=arg.steps, batch=arg.batch, every=arg.every)
    return csst.get_config(ablation.arguments(**own, **more))


def add_row(config, arg, name, row, seed):
    """Adds the stages of one row and seed that are not there yet, and the evaluation of the last one."""
    kind, ratio, variant = row
    method = variant if variant in csst.METHODS else "student"
    found = recipe(arg, method=method, ratio=ratio, sampling="uniform" if variant == "uniform" else "")
    if kind in LABELS_ONLY:
        stage = found.teacher
        if kind == "teacher_x2":
            for key in ("total_steps", "total_epochs"):
                stage.update({key: 2 * stage[key]} if key in stage else {})
        last = add(config, arg, stage, name, seed, every=0 if kind == "bound" else arg.every)
    else:
        last = add_student(config, arg, found, name, row, seed)
    evaluate = found.evaluate
    evaluate.update(checkpoint=last, split=arg.split or evaluate.split)
    ablation.add(config, f"evaluate_{name}_seed{seed}", evaluate)


def add_student(config, arg, found, name, row, seed):
    """Adds a student and, unless they are there, its pseudo labels and their teacher; returns the student's name."""
    kind, _, variant = row
    if "pseudo_label" in found:
        soft = "_soft" if variant == "soft" else ""
        labels = f"{'pool' if kind == 'pool' else 'labels'}{soft}_seed{seed}"
        if labels not in config:
            found.pseudo_label.checkpoint = f"teacher_seed{seed}"
            if kind == "pool":
                found.pseudo_label.unlabelled = files(arg.pool)
                found.pseudo_label.size = POOL_SIZES.get(arg.preset, 0)
            add(config, arg, found.pseudo_label, labels, seed, every=arg.every, full_name=labels)
    last = f"teacher_seed{seed}"
    for stage in ("pretrain", "student"):
        if stage not in found:
            continue
        if "pseudo" in found[stage].get("extra", {}):
            found[stage].extra.pseudo.stage = labels
        if found[stage].init.checkpoint:  # finetune: the teacher; pretrain: the stage before
            found[stage].init.checkpoint = last
        own_name = f"{name}_before" if stage == "pretrain" else name
        last = add(config, arg, found[stage], own_name, seed, every=arg.every)
    return last


def files(pool):
    """Returns the pools of the option `pool`: all images of a folder, every 5th frame of a video."""
    paths = enumerate(pool.split("+"), start=1)
    return {f"pool{i}": dict(frames=path, every=5 if "." in path.rpartition("/")[2] else 1) for i, path in paths}


def add(config, arg, stage, name, seed, *, every, full_name=""):
    """Adds a stage on the labels of a seed; returns its name."""
    name = full_name or f"{name}_seed{seed}"
    if name not in config:
        if stage.kind == "train":
            stage.update(seed=seed, keep=1)
        if every > 1:
            section = {**config.dataset.to_dict(), "train": f"{config.dataset.train}::{every},first={seed % every}"}
            stage.dataset = ConfigDict(section)
    return ablation.add(config, name, stage)


def sweep(add):
    """Adds the study of docs/self_training.md, and the alternatives of Table 2."""
    add("camvid")
    add(f"camvid,rows={ALTERNATIVES.replace('student1', 'student7')}")
