"""LDN: Efficient Ladder-style DenseNets for Semantic Segmentation of Large Images (Kreso et al., 2020).

    python main.py --config=configs/ldn.py                                the embedded street; minutes on 2 CPU cores
    python main.py --config=configs/ldn.py:camvid_half,net=efficientnet   CamVid at 360x480; hours on 2 CPU cores
    python main.py --config=configs/ldn.py:camvid_half,init=random,batch=8
    python main.py --config=configs/ldn.py:cityscapes,data=DIR            the paper's numbers; accelerators
    python main.py --config=configs/ldn.py:cityscapes,remat=layer+stem+td+up,data=DIR  the same in a fraction of memory
    python main.py --config=configs/ldn.py:voc2012,net=ldn161,data=DIR    SBD's labels first, then VOC's own
    python main.py --config=configs/ldn.py:cross,data=DIR                 Table 7: Cityscapes, Vistas, both
    python main.py --config=configs/ldn.py:rob2018,data=DIR               39 classes of four datasets

Stages: train -> recalibrate (exact statistics of the batch norms over the training images) -> evaluate.

net, layout: a network and its strides, see docs/models.md; by default those of the paper. form: paper or released.
init: imagenet, or random with the network and the longer training that the paper has for it (Table 5).
remat: segments to recompute in the backward pass, joined by +, see docs/ldn.md. augment: none, flip, crop (and flip) or
scale (and both), as in Table 10; without crops whole images are trained on.
multi: evaluation at 5 scales and mirrored. analyses: also scores of every level of the ladder (Fig. 6), and without the
last units of the trunk (Fig. 5). epochs, batch: 0 = those of the paper.

Marked "ours": what the paper leaves out. Results: docs/ldn.md.
"""

from ml_collections import ConfigDict

from configs import common
from configs.ldn_training import AUGMENTATIONS, DENSE, INITS, NETS, PRESETS, training

SHIPPED = (
    "",
    "camvid_half,net=efficientnet",
    "camvid_half,init=random",
    "camvid",
    "cityscapes_half,net=lrn18",
    "cityscapes",
    "voc2012",
    "cross",
    "rob2018",
)
SLOW = SHIPPED[1:]  # debug runs of many stages, or with the same stages as the first

OPTIONS = dict(preset="synthetic", net="", layout="", form="", init="", augment="scale", remat="", multi=False)
OPTIONS.update(analyses=False, epochs=0, batch=0, data="", debug=False)


def get_config(arg=None):
    arg = checked(common.parse_arg(arg, **OPTIONS))
    config = ConfigDict(dict(seed=0, stages=()))
    build = dict(cross=cross, rob2018=rob2018, voc2012=voc2012).get(arg.preset, one_training)
    build(config, arg)
    if arg.debug:
        common.shrink(config, keep_data=bool(arg.data))
        debug(config, arg)
    return config


def checked(arg):
    """Returns the options with the defaults of their preset. Raises ValueError for those that do not fit."""
    _, _, _, net, layout, _ = PRESETS[common.pick("preset", arg.preset, PRESETS)]
    own_layout = not arg.net or arg.net in DENSE  # other trunks have the layout of their network
    arg.net = arg.net or net
    common.pick("net", arg.net, NETS)
    common.pick("augment", arg.augment, AUGMENTATIONS)
    arg.layout = arg.layout or (layout if own_layout else "")
    arg.init = common.pick("init", arg.init or ("random" if arg.net == "thin" else "imagenet"), INITS)
    if arg.net == "thin" and arg.init == "imagenet":
        raise ValueError("no ImageNet weights fit net=thin; write init=random, or another net.")
    if arg.net == "efficientnet" and arg.init == "random":
        raise ValueError("net=efficientnet is for ImageNet weights; write net=ldn121,init=random.")
    if arg.analyses and arg.preset in ("cross", "rob2018"):
        raise ValueError(f"the option analyses is for presets of one dataset, and {arg.preset} has several.")
    if arg.epochs < 0 or arg.batch < 0:
        raise ValueError(f"epochs={arg.epochs} and batch={arg.batch} must be 0 or more.")
    return arg


def one_training(config, arg):
    """Adds a training on one dataset, recalibration and evaluation."""
    half = arg.preset == "cityscapes_half"
    name = arg.preset.partition("_")[0]
    if name == "synthetic":
        config.dataset = common.synthetic_dataset()
    elif name == "camvid":  # section 5.3: the validation images are trained on; those of the tree have half the size
        full = dict(config="full") if arg.preset == "camvid" else {}
        config.dataset = common.published_dataset(name, arg.data, train="trainval", **full)
    else:
        config.dataset = common.published_dataset(name, arg.data)
    if half:
        config.dataset.resize = 0.5
    add(config, "train", training(arg))
    finish(config, arg, "train", benchmark="cityscapes" if name == "cityscapes" and not half else "")


def voc2012(config, arg):
    """Adds section 5.5: a training on the labels of SBD, then one on VOC's own."""
    config.dataset = common.published_dataset("voc2012", arg.data, train="train_aug")
    config.dataset.options.config = "aug"
    add(config, "train_aug", training(arg))
    stage = training(arg)
    stage.dataset = ConfigDict({**config.dataset.to_dict(), "train": "train"})
    stage.init.update(weights="", checkpoint="train_aug")
    add(config, "train", stage)
    finish(config, arg, "train")


def cross(config, arg):
    """Adds Table 7: three trainings at half size, each evaluated on the validation images of three datasets."""
    maps = dict(mapillary="mapillary_to_cityscapes")
    sets = {name: common.published_dataset(name, arg.data, label_map=maps.get(name, "")) for name in CROSS}
    for name, section in sets.items():
        section["resize"] = CROSS[name]
    sets["kitti"].update(validation="train", test="train")  # its 200 labelled images
    config.dataset = sets["cityscapes"]
    for name, trained in (("cityscapes", "cityscapes"), ("vistas", "mapillary"), ("both", "cityscapes")):
        stage = training(arg)
        stage.dataset = sets[trained]
        if name == "both":
            stage.extra = dict(vistas=dict(dataset=sets["mapillary"], split="train", times=1))
        add(config, name, stage)
        recalibrated = f"recalibrate_{name}"
        add(config, recalibrated, recalibration(arg, name, stage))
        for other, section in sets.items():
            add(config, f"evaluate_{name}_on_{other}", evaluation(arg, recalibrated, "validation", section))


# half of 1024x2048, of Vistas at a width of 2048 (section 5.4) and of KITTI
CROSS = {"cityscapes": 0.5, "mapillary": dict(width=1024), "kitti": 0.5}


def rob2018(config, arg):
    """Adds the submission to the Robust Vision Challenge 2018 (section 5.4): one network for four datasets.

    Each is scored by its own classes. The submission trained on all labels of Cityscapes, ScanNet, KITTI and WildDash.
    So these scores are of images that were trained on; the four servers score the others.
    """
    sets = {name: common.published_dataset(name, arg.data, label_map=f"rob_{name}") for name in ROB}
    config.dataset = sets["cityscapes"]
    stage = training(arg)
    stage.dataset = ConfigDict({**sets["cityscapes"], "train": "trainval"})
    others = {name: split for name, split in ROB.items() if name != "cityscapes"}
    stage.extra = {name: dict(dataset=sets[name], split=split, times=1) for name, split in others.items()}
    add(config, "train", stage)
    add(config, "recalibrate", recalibration(arg, "train", stage))
    for name, section in sets.items():
        split = "train" if name == "kitti" else "validation"
        last = evaluation(arg, "recalibrate", split, section)
        last.classes = "own"
        add(config, f"evaluate_{name}", last)


ROB = {"cityscapes": "trainval", "scannet": "trainval", "kitti": "train", "wilddash": "validation"}


def add(config, name, section):
    config[name] = section
    config.stages = (*config.stages, name)


def finish(config, arg, trained, benchmark=""):
    """Adds the recalibration and the evaluation of a training, and the analyses if they are asked for."""
    add(config, "recalibrate", recalibration(arg, trained, config[trained]))
    split = "test" if arg.preset.startswith(("synthetic", "camvid")) else "validation"
    last = evaluation(arg, "recalibrate", split)
    last.benchmark = benchmark
    analyses = arg.analyses or arg.preset == "synthetic"
    if analyses:
        last.update(outputs="all", best=8)
    add(config, "evaluate", last)
    if analyses:
        add(config, "disable_tail", ConfigDict(dict(kind="disable_tail", checkpoint="recalibrate", split=split)))
        config.disable_tail.batch_size = last.batch_size


def recalibration(arg, checkpoint, trained):
    """Returns the stage that measures the statistics of the batch norms anew, on the images of a training."""
    stage = ConfigDict(dict(kind="recalibrate", checkpoint=checkpoint, split="train", batch_size=trained.batch_size))
    stage.crop = dict(size=trained.crop.size, scale_range=trained.crop.scale_range)  # ours: crops as in the training
    stage.augment = dict(flip=trained.augment.flip)
    for key in ("dataset", "extra"):  # all images of the training
        if key in trained:
            stage[key] = trained[key]
    return stage


def evaluation(arg, checkpoint, split, dataset=None):
    large = arg.preset in ("cityscapes", "rob2018", "cross", "camvid", "voc2012")
    stage = dict(kind="evaluate", checkpoint=checkpoint, split=split, batch_size=1 if large else 8, worst=8)
    stage.update(protocol="ldn_multi" if arg.multi else "single", scales=(), flip=False, window=(), boundary=False)
    stage["benchmark"] = ""
    stage = ConfigDict(stage)
    if dataset is not None:
        stage.dataset = dataset
    return stage


def debug(config, arg):
    """Sets sizes of CI for the stages and networks of this recipe."""
    for name in config.stages:
        stage = config[name]
        if stage.kind == "train" and arg.net in DENSE:
            stage.model.options.update(growth=4, blocks=(2, 2, 2, 2), width=16)
        if stage.kind == "recalibrate":
            stage.update(batch_size=2, crop=dict(size=(64, 64), scale_range=(0.5, 1.0)))
        if stage.kind == "disable_tail":
            stage.update(batch_size=2, units=(0, 2))
        if arg.preset == "rob2018" and not arg.data and stage.get("dataset"):
            stage.dataset = ConfigDict({**stage.dataset.to_dict(), "label_map": "rob_bdd100k"})


def sweep(add):
    """Adds the trainings of Tables 1, 2, 5, 8, 9 and 10."""
    for layout in ("32", "64to4", "32to4", "32to2", "8", "8to4", "16to4"):  # Table 1
        form = ",form=released" if layout in ("8to4", "16to4") else ""  # the form that the printed sizes fit
        add(f"cityscapes_half,layout={layout}{form}")
    for net in ("lrn18", "lrn50", "lrn101", "dpn68", "ldn169"):
        add(f"cityscapes_half,net={net}")
    for layout in ("32to4", "64to4", "128to4"):  # Table 2; the last row is an evaluation of the second with multi
        add(f"cityscapes,layout={layout}")
    add("cityscapes,net=ldn161")
    add("cityscapes,multi")
    for init in INITS:  # Table 5
        for net in ("ldn121", "lrn18", "lrn50", "lrn101"):
            add(f"camvid,net={net},init={init}")
        add(f"camvid,layout=64to4,init={init}")
    for net in ("ldn121", "ldn169", "ldn161"):  # Table 8
        add(f"voc2012,net={net}")
    for change in (dict(spp="none"), dict(spp="pspnet"), dict(aux=False), dict(separable=True)):  # Table 9
        add("cityscapes", **{f"train.model.options.{name}": value for name, value in change.items()})
    for augment in AUGMENTATIONS:  # Table 10
        add(f"cityscapes,augment={augment}")
