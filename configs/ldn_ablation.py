"""What pays in a Ladder DenseNet: short equal trainings for Tables 7, 9 and 10 (Kreso et al., 2020), with seeds.

    python main.py --config=configs/ldn_ablation.py                                    the embedded street, minutes
    python main.py --cpu_devices=2 --config=configs/ldn_ablation.py:camvid_half        CamVid; hours
    python main.py --cpu_devices=2 --config=configs/ldn_ablation.py:camvid_half,rows=camvid+street+both   Table 7
    python main.py --config=configs/ldn_ablation.py:cityscapes,data=DIR                the paper's; accelerators

The same command resumes after a kill. With more seeds or other rows it trains only what is new. The last stage writes
compare/table.md, table.csv and curves.png: mIoU, and differences to the row `base` (of Table 7: `camvid`), paired by
seed, with 95 % intervals.

rows: joined by +, each with its number of seeds if it is not `seeds`, as in base*5+no_aux*3:
    base                                        the recipe of ldn.py, with recalibrated batch norms
    running                                     its batch norms as the training leaves them: no recalibration
    no_aux, no_spp, pspnet, separable           Table 9
    augment_none, augment_flip, augment_crop    Table 10; base has scales, crops and flips
    camvid, street, both                        Table 7 in kind: trained on CamVid, on the embedded street, on both, in
                                                CamVid's 11 classes, and scored on the test images of each; all see as
                                                many images as `camvid`
epochs: of each training; 0: those of the preset. crop: HEIGHTxWIDTH, of rows with crops: augment_none and augment_flip
train on whole images. net, data, batch and remat are those of ldn.py. See docs/ldn.md.
"""

from ml_collections import ConfigDict

from configs import ablation, common, ldn

TABLE_9 = {
    "no_aux": dict(aux=False),
    "no_spp": dict(spp="none"),
    "pspnet": dict(spp="pspnet"),
    "separable": dict(separable=True),
}
TABLE_10 = {f"augment_{name}": name for name in ldn.AUGMENTATIONS[:-1]}
TABLE_7 = ("camvid", "street", "both")
NAMES = ("base", "running", *TABLE_9, *TABLE_10, *TABLE_7)
ROWS = "+".join(("base", "running", *TABLE_9, *TABLE_10))
#                 epochs  net             crop
PRESETS = {
    "synthetic": (0, "thin", ""),
    "camvid_half": (6, "efficientnet", "264x320"),  # ours: three seeds in hours of 2 cores
    "cityscapes": (0, "ldn121", ""),
}
RULE = "A row differs from {} if the 95 % interval of the differences, paired by seed, excludes 0."
STREET_MAP = "synthetic_street_to_camvid"
CAMVID_IMAGES = 468  # of the split trainval, at 360x480

SHIPPED = ("rows=base+running,seeds=1", "", "camvid_half", "camvid_half,rows=camvid+street+both", "cityscapes")
SLOW = SHIPPED[1:]  # debug runs of many trainings

OPTIONS = dict(preset="synthetic", rows="", seeds=3, net="", data="", epochs=0, batch=0, crop="", remat="", debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    epochs, net, crop = PRESETS[common.pick("preset", arg.preset, PRESETS)]
    arg.update(epochs=arg.epochs or epochs, net=arg.net or net, crop=arg.crop or crop)
    rows = ablation.read_rows(arg.rows or ROWS, arg.seeds)
    for name in rows:
        common.pick("row", name, NAMES)
    table_7 = [name for name in rows if name in TABLE_7]
    if table_7 and (len(table_7) < len(rows) or arg.preset != "camvid_half"):
        raise ValueError(f"the rows {', '.join(TABLE_7)} are a study of their own; write camvid_half,rows=camvid+both.")
    baseline = "camvid" if table_7 else "base"
    rows = ablation.with_baseline(rows, baseline)
    if arg.debug:
        rows = dict.fromkeys(rows, 1)

    config = ConfigDict(dict(seed=0, stages=()))
    config.dataset = recipe(arg).dataset
    cells = {}
    for seed in range(max(rows.values())):  # all of a seed first
        for name, seeds in rows.items():
            if seed < seeds:
                for at, stage in add_row(config, arg, name, seed).items():
                    cells.setdefault((name, at), []).append(stage)
    cells = tuple(dict(series=name, at=at, stages=tuple(stages)) for (name, at), stages in cells.items())
    config.compare = dict(kind="compare", baseline=baseline, rule=RULE.format(baseline), cells=cells)
    config.compare.update(axis="scored on", columns=("miou", "pixel_accuracy"), band=True, partial=False)
    config.compare.title = f"{config.dataset.name} {config.dataset.train}, {arg.net}"
    config.stages = (*config.stages, "compare")
    if arg.debug:
        common.shrink(config, keep_data=bool(arg.data))
        ldn.debug(config, arg)
    return config


def recipe(arg, augment=""):
    """Returns the recipe of configs/ldn.py with these options."""
    own = {name: arg[name] for name in ("preset", "net", "data", "epochs", "batch", "remat")}
    found = ldn.get_config(ablation.arguments(**own, augment=augment))
    if arg.crop and augment not in ("none", "flip"):  # those train on whole images
        for stage in (found.train, found.recalibrate):
            stage.crop.size = ablation.read_size("crop", arg.crop)
    return found


def add_row(config, arg, name, seed):
    """Adds the stages of a row and seed that are not there yet; returns test set -> its evaluation."""
    found = recipe(arg, augment=TABLE_10.get(name, ""))
    for key in {"outputs", "best"} & set(found.evaluate):  # analyses, of heads that a row may lack
        del found.evaluate[key]
    found.train.model.options.update(TABLE_9.get(name, {}))
    found.train.update(seed=seed, keep=1)
    if arg.preset == "camvid_half":  # its validation images are trained on
        del found.train.eval_epochs, found.train.eval_limit
    if name in TABLE_7:
        set_data(found, name)
    trained = f"{'base' if name == 'running' else name}_seed{seed}"
    last = ablation.add(config, f"train_{trained}", found.train)
    if name != "running":
        found.recalibrate.checkpoint = last
        last = ablation.add(config, f"recalibrate_{trained}", found.recalibrate)
    sets = {"test images": None} if name not in TABLE_7 else {"CamVid": None, "street": street()}
    stages = {}
    for at, section in sets.items():
        stage = found.evaluate.copy_and_resolve_references()
        stage.checkpoint = last
        if section:
            stage.dataset = ConfigDict(section)
        where = f"_on_{at}" if name in TABLE_7 else ""
        stages[at] = ablation.add(config, f"evaluate_{name}{where}_seed{seed}", stage)
    return stages


def street():
    """Returns the section of the embedded street at CamVid's height, in CamVid's classes."""
    return dict(common.synthetic_dataset(height=360, width=480), label_map=STREET_MAP)


def set_data(found, name):
    """Sets the data of a training, and of its recalibration, for a row of Table 7."""
    for stage in (found.train, found.recalibrate):
        if name == "street":
            stage.dataset = ConfigDict(street())
        if name == "both":
            stage.extra = dict(street=dict(dataset=street(), split="train", times=1))
    found.train.total_examples = found.train.total_epochs * CAMVID_IMAGES
    del found.train.total_epochs


def sweep(add):
    """Adds the studies of docs/ldn.md."""
    add("camvid_half")
    add("camvid_half,rows=camvid+street+both")
