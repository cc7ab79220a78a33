"""CSST: Improving Semantic Segmentation via Efficient Self-Training (Zhu et al., v2 of 2021; v1 of 2020 as an option).

    python main.py --config=configs/csst.py                          the embedded street; minutes on 2 CPU cores
    python main.py --config=configs/csst.py:camvid,net=efficientnet  every 8th label of CamVid, the rest as the pool
    python main.py --config=configs/csst.py:own,images=DIR,masks=DIR,label_map=FILE,unlabelled=DIR_OR_VIDEO
    python main.py --config=configs/csst.py:cityscapes,data=DIR                 the paper's numbers; accelerators
    python main.py --config=configs/csst.py:cityscapes,submission,data=DIR      OCR as teacher and student, all scales
    python main.py --config=configs/csst.py:voc2012,net=deeplabv3,data=DIR      9K images of SBD as the pool
    python main.py --config=configs/csst.py:bdd100k,shots=10,data=DIR           from Cityscapes to another country

Stages: teacher -> pseudo_label -> student, each trained from ImageNet weights and evaluated on the same split.

method: student (hard pseudo labels, eq. 3); finetune (the teacher itself goes on, eq. 5); soft (the teacher's most
probable classes, eq. 6); regulariser (eq. 7); consistency (no teacher: the network's own labels, eq. 4); pretrain (on
pseudo labels only, then on real ones; v1, Appendix A).
ratio: pseudo labels per real one in an epoch. sampling: centroid or uniform, of all trainings. every: keep every Nth
label, the images of the others are the pool. loops: 2 = the student labels the pool again for another student.
schedule: of the crops, coarse2fine+ is the fastest without loss. v1: half of the real images per epoch, uniformly
drawn, and ratio times as many pseudo labels; 20 epochs at the full crop before a schedule. coarse: humans' coarse
labels in place of the pseudo labels of these images. shots: labelled images per class of the target domain, 0 = all.
steps: of each training, 0 = the paper's epochs, and for light networks on a CPU a few hundred steps.

Marked "a guess": what neither version of the paper states. Results: docs/self_training.md.
"""

from ml_collections import ConfigDict

from configs import common
from configs import csst_training as trainings

# Ratios: pools of 40K, 9K, 7K and 18K
#                net          ratio  every
PRESETS = {
    "synthetic": ("fastscnn", 3.0, 4),
    "camvid": ("deeplabv2", 7.0, 8),
    "own": ("r18", 1.0, 0),
    "cityscapes": ("rnx50", 13.4, 0),
    "voc2012": ("pspnet", 6.2, 0),
    "bdd100k": ("rnx50", 2.3, 0),
    "mapillary": ("rnx50", 6.0, 0),
}
METHODS = ("student", "finetune", "pretrain", "consistency", "soft", "regulariser")
TOP_K = 5  # a guess: the paper keeps "the top-k predictions"
REGULARISER = 0.1  # a guess: the weight of eq. 7's last term
THRESHOLD = 0.9  # a guess: of the confidence of the network's own labels in eq. 4

SHIPPED = (
    "",
    "camvid",
    "camvid,net=efficientnet",
    "own",
    "cityscapes",
    "cityscapes,submission",
    "cityscapes,v1,schedule=coarse2fine+,coarse",
    "voc2012",
    "bdd100k",
    "mapillary",
    "method=soft,loops=2",
)
# the debug runs of the other presets are slow, or have the same stages; csst_ablation.py has one of all methods
SLOW = SHIPPED[1:]

# options of one preset, or of a kind of them, by default left out; naming one elsewhere would have no effect
OWN = ("images", "masks", "label_map")
FOREIGN = ("bdd100k", "mapillary")  # section 4.6: from Cityscapes to another domain

OPTIONS = dict(preset="synthetic", method="student", net="", teacher="", ratio=0.0, sampling="centroid")
OPTIONS.update(schedule="constant", every=-1, loops=1, steps=0, shots=-1, batch=0, v1=False, coarse=False)
OPTIONS.update(submission=False, data="", images="", masks="", label_map="", unlabelled="", frames_every=0, debug=False)


def get_config(arg=None):
    arg = checked(common.parse_arg(arg, **OPTIONS))
    config = ConfigDict(dict(seed=0, stages=()))
    config.dataset = dataset(arg)
    extra = {"coarse": dict(split="train_extra")} if arg.coarse else {}
    if arg.method == "consistency":
        online = {name: dict(pool, labels="online", threshold=THRESHOLD) for name, pool in pools(arg).items()}
        add(config, "student", training(arg, arg.net, {**extra, **online}))
    else:
        add(config, "teacher", training(arg, arg.teacher, {}))
        add_evaluation(config, "evaluate_teacher", "teacher", arg)
        last = "teacher"
        for loop in range(1, arg.loops + 1):
            suffix = f"_{loop}" if loop > 1 else ""
            add(config, f"pseudo_label{suffix}", labelling(arg, last))
            last = add_student(config, arg, extra, suffix, labels=f"pseudo_label{suffix}")
            if loop < arg.loops:
                add_evaluation(config, f"evaluate_student{suffix}", last, arg)
    if arg.preset in FOREIGN:
        add_evaluation(config, f"evaluate_{config.stages[-1]}", config.stages[-1], arg, on=source_dataset(arg))
        add(config, "adapt", trainings.adaptation(arg, config.stages[-2]))
    add_evaluation(config, "evaluate", config.stages[-1], arg)
    if arg.debug:
        common.shrink(config, keep_data=bool(arg.images or (arg.data and arg.preset != "own")))
        if arg.preset == "mapillary" and not arg.data:  # other classes than Cityscapes', so that the classifier is new
            other = {**config.dataset.to_dict(), "label_map": "rob_bdd100k"}
            config.adapt.dataset = config.evaluate.dataset = ConfigDict(other)
    return config


def checked(arg):
    """Returns the options with the defaults of their preset. Raises ValueError for those that do not fit it."""
    net, ratio, every = PRESETS[common.pick("preset", arg.preset, PRESETS)]
    common.pick("method", arg.method, METHODS)
    common.pick("sampling", arg.sampling, trainings.SAMPLING)
    for name in ("coarse", "submission"):
        if arg[name] and arg.preset != "cityscapes":
            raise ValueError(f"the option {name} belongs to the preset cityscapes; write cityscapes,{name}.")
    for name in OWN:
        if arg[name] and arg.preset != "own":
            raise ValueError(f"the option {name} belongs to the preset own; write own,{name}=...")
    if arg.shots >= 0 and arg.preset not in FOREIGN:
        raise ValueError(f"the option shots belongs to the presets {' and '.join(FOREIGN)}.")
    if arg.frames_every and not arg.unlabelled:
        raise ValueError("the option frames_every is for the frames of unlabelled=FOLDER_OR_VIDEO; give both.")
    if arg.submission:
        net = "wrn38" if arg.v1 else "ocr"
    arg.net = arg.net or net
    arg.teacher = arg.teacher or (net if arg.preset == "cityscapes" else arg.net)
    for name in (arg.net, arg.teacher):
        common.pick("net", name, trainings.NETS)
    if arg.method == "finetune" and arg.net != arg.teacher:
        raise ValueError("method=finetune trains the teacher itself; give the same net and teacher.")
    if arg.method in ("consistency", "pretrain", "finetune") and arg.loops > 1:
        raise ValueError(f"the option loops is for methods with a new student, and method={arg.method} has none.")
    if arg.method == "consistency" and arg.unlabelled:
        raise ValueError("method=consistency reads its images as a data set; name one with every=N, not unlabelled.")
    if arg.preset == "own" and not arg.unlabelled and arg.images and arg.every < 2:
        raise ValueError("the preset own needs unlabelled=FOLDER_OR_VIDEO, or every=N to use the other images as such.")
    if arg.ratio < 0 or arg.loops < 1:
        raise ValueError(f"ratio={arg.ratio} must be above 0 and loops={arg.loops} at least 1.")
    arg.ratio = arg.ratio or (7.0 if arg.v1 else ratio)
    if arg.every < 0:
        arg.every = 0 if arg.unlabelled else every  # with a pool of its own, all labels
    arg.shots = 10 if arg.shots < 0 else arg.shots
    arg.frames_every = arg.frames_every or 1
    return arg


def dataset(arg):
    """Returns the section of the data that is scored: of the target domain, if there is one."""
    if arg.preset == "synthetic":
        section = common.synthetic_dataset()
    elif arg.preset == "own":
        section = common.own_dataset(arg.images, arg.masks, arg.label_map)
    else:
        section = common.published_dataset(arg.preset, arg.data)
    if arg.preset == "cityscapes":
        section["options"].update(parts=("fine", "coarse"))
    if arg.preset == "voc2012":
        section["options"].update(config="aug")
    if arg.every > 1:
        section["train"] = f"train::{arg.every}"
    if arg.shots and arg.preset in FOREIGN:
        section["train"] = f"train@{arg.shots}shot"
    return ConfigDict(section)


def source_dataset(arg):
    """Returns the section of the data with labels; None = that of the recipe."""
    if arg.preset in FOREIGN:
        return ConfigDict(common.published_dataset("cityscapes", arg.data))
    return None


def pools(arg):
    """Returns name -> images without labels, for the stage pseudo_label or as a part of the training data."""
    if arg.unlabelled:
        return {"own": dict(frames=arg.unlabelled, every=arg.frames_every)}
    if arg.preset == "cityscapes":
        mapillary = common.published_dataset("mapillary", arg.data, label_map="mapillary_to_cityscapes")
        found = dict(mapillary=dict(dataset=mapillary, split="train", only="all"))
        return found if arg.coarse else dict(coarse=dict(split="train_extra", only="all"), **found)
    if arg.preset == "voc2012":
        return dict(sbd=dict(split="sbd", only="all"))
    if arg.preset in FOREIGN:
        maps = {"mapillary": "mapillary_to_cityscapes"}
        target = common.published_dataset(arg.preset, arg.data, label_map=maps.get(arg.preset, ""))
        return {arg.preset: dict(dataset=target, split="train", only="all")}
    return dict(rest=dict(split="train", only="unlabelled"))


def labelling(arg, teacher):
    """Returns the stage that labels the pool."""
    stage = dict(kind="pseudo_label", checkpoint=teacher, unlabelled=pools(arg), size=0, batch_size=0)
    stage.update(protocol="single", scales=(), flip=False, window=())  # a guess: one view of the whole image
    if arg.preset in ("cityscapes", "bdd100k", "mapillary"):
        stage.update(size=1024, window=(1024, 1024))  # a guess; Mapillary's images have up to 12 megapixels
    stage.update(labels="hard", top_k=0, threshold=0.0, confidence=False, images="copied", sheet_rows=8)
    if arg.method == "soft":
        stage.update(labels="soft", top_k=TOP_K)
    stage = ConfigDict(stage)
    if source := source_dataset(arg):
        stage.dataset = source
    return stage


def add(config, name, section):
    config[name] = section
    config.stages = (*config.stages, name)


def add_student(config, arg, extra, suffix, *, labels):
    """Adds the training on real and pseudo labels; returns its name."""
    name = f"student{suffix}"
    parts = {**extra, "pseudo": dict(stage=labels)}
    stage = training(arg, arg.net, parts)
    if arg.method == "finetune":
        stage.init.update(weights="", checkpoint="teacher")
        stage.optimizer.lr *= 0.1  # section 4.2: 0.002
    if arg.method == "pretrain":
        first = training(arg, arg.net, parts)
        first.sampler.parts.real.ratio = 0.0
        add(config, "pretrain", first)
        stage = training(arg, arg.net, {})
        stage.init.update(weights="", checkpoint="pretrain")
        stage.optimizer.lr *= 0.1
    if arg.method == "soft":
        stage.loss = dict(main=dict(name="top_k_cross_entropy", on="heads", weight=1.0, options={}))
    if arg.method == "regulariser":
        smooth = dict(name="model_regulariser", on="logits", weight=REGULARISER, options={}, parts=("pseudo",))
        stage.loss.smooth = smooth
    add(config, name, stage)
    return name


def training(arg, net, extra):
    """Returns a training on the labels of the source domain and on extra parts."""
    stage = trainings.training(arg, net, extra)
    if source := source_dataset(arg):
        stage.dataset = source
    return stage


def add_evaluation(config, name, checkpoint, arg, on=None):
    """Adds the evaluation of a training on the dataset `on`, by default the recipe's."""
    split = "test" if arg.preset in ("synthetic", "camvid") else "validation"
    stage = dict(kind="evaluate", checkpoint=checkpoint, split=split, batch_size=8, worst=8)
    stage.update(protocol="single", scales=(), flip=False, window=(), boundary=False)
    if arg.preset in ("cityscapes", "bdd100k", "mapillary"):
        stage.update(batch_size=1, window=(1024, 1024))
    stage["benchmark"] = "cityscapes" if arg.preset == "cityscapes" else ""
    if arg.submission:
        stage.update(protocol="cityscapes_multi", window=())
    stage = ConfigDict(stage)
    where = on or (source_dataset(arg) if checkpoint == "teacher" else None)
    if where is not None:
        stage.dataset = where
    add(config, name, stage)


def sweep(add):
    """Adds Table 1 of the paper, (a) and Table 2."""
    for ratio in (1.0, 2.0, 4.0, 13.4):
        for sampling in trainings.SAMPLING:
            add(f"cityscapes,ratio={ratio},sampling={sampling}")
    for method in METHODS:
        add(f"cityscapes,method={method}")
