"""VPLR's table 1 (Zhu et al., CVPR 2019): pre-training on Mapillary, then class-uniform sampling, on Cityscapes.

    python main.py --config=configs/vplr_table1.py:data=DIR --workdir=runs/table1                    accelerators
    python main.py --config=configs/vplr_table1.py:data=DIR,start=RUN,rows=mapillary+coarse,seeds=3

rows: baseline (ImageNet weights, uniform sampling; 76.60), mapillary (Mapillary weights; 78.32), coarse (and
class-uniform sampling of fine and coarse labels; 79.46), fine (of fine labels only, which the paper does not show).
All are trained with plain cross entropy. Stages: mapillary (vplr.py:mapillary), its evaluation, then train_ROW_seedN
and evaluate_ROW_seedN, and compare, which writes the table. data: folder with DIR/mapillary and DIR/cityscapes.
start: a finished run on Mapillary. ROW*N: N seeds of a row, others as many as seeds.
"""

from ml_collections import ConfigDict

from configs import ablation, common, vplr

ROWS = ("baseline", "mapillary", "fine", "coarse")
SHIPPED = ("", "rows=coarse")
SLOW = SHIPPED[:1]  # a debug run of five trainings
PLAIN = dict(name="cross_entropy", on="heads", weight=1.0, options={})

OPTIONS = dict(rows="+".join(ROWS), data="", start="", net="rnx50", seeds=1, batch=0, debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    rows = ablation.read_rows(arg.rows, arg.seeds)
    for row in rows:
        common.pick("row", row, ROWS)
    rows = ablation.with_baseline(rows, "baseline")
    first = recipe(arg, "cityscapes", coarse="coarse" in rows)

    config = ConfigDict(dict(seed=0, stages=(), dataset=first.dataset))
    if not arg.start and set(rows) != {"baseline"}:
        before = recipe(arg, "mapillary")
        before.train.dataset = before.evaluate.dataset = before.dataset
        before.evaluate.checkpoint = "mapillary"
        ablation.add(config, "mapillary", before.train)
        ablation.add(config, "evaluate_mapillary", before.evaluate)
    for row, seeds in rows.items():
        for seed in range(seeds):
            add_run(config, arg, row, seed)
    cells = [dict(series=r, at="Cityscapes", stages=tuple(evaluation(r, s) for s in range(n))) for r, n in rows.items()]
    compare = dict(kind="compare", cells=tuple(cells), axis="dataset", baseline="baseline")
    compare["title"] = "VPLR, table 1: mIoU on Cityscapes' validation split"
    ablation.add(config, "compare", ConfigDict(compare))
    return debug(config) if arg.debug else config


def recipe(arg, preset, *, coarse=False):
    """Returns the recipe of configs/vplr.py for a dataset."""
    data = f"{arg.data}/{preset}" if arg.data else ""
    net = "fastscnn" if arg.debug else arg.net
    return vplr.get_config(ablation.arguments(preset=preset, net=net, data=data, batch=arg.batch, coarse=coarse))


def evaluation(row, seed):
    return f"evaluate_{row}_seed{seed}"


def add_run(config, arg, row, seed):
    """Adds a training of a row, and its evaluation."""
    stages = recipe(arg, "cityscapes", coarse=row == "coarse")
    train = stages.train
    train.seed, train.keep = seed, 1
    train.loss.main = PLAIN
    if row in ("baseline", "mapillary"):
        train.sampler = dict(kind="uniform")
    if row == "baseline":
        train.init.expected = ""
    else:
        train.init.update(weights="", checkpoint=arg.start or "mapillary")
    stages.evaluate.checkpoint = f"train_{row}_seed{seed}"
    ablation.add(config, f"train_{row}_seed{seed}", train)
    ablation.add(config, evaluation(row, seed), stages.evaluate)


def debug(config):
    """Sets small streets; Mapillary's has other classes, so that the classifier is replaced."""
    common.shrink(config)
    if "mapillary" in config:
        street = ConfigDict({**config.dataset.to_dict(), "label_map": "rob_bdd100k"})
        config.mapillary.dataset = config.evaluate_mapillary.dataset = street
    return config


def sweep(add):
    """Adds the table, and the rows of its last column with three seeds."""
    add()
    add("rows=mapillary+fine+coarse,seeds=3")
