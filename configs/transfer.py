"""Pre-training on a large dataset, then fine-tuning: Mapillary Vistas -> Cityscapes -> CamVid or KITTI, as in VPLR
(Zhu et al., CVPR 2019, sections 4.1 and 4.2: Mapillary instead of ImageNet weights gives +1.7 mIoU on Cityscapes).

    python main.py --config=configs/transfer.py:data=DIR                              the start of Cityscapes' numbers
    python main.py --config=configs/transfer.py:mapillary+cityscapes+camvid,data=DIR  CamVid's numbers
    python main.py --config=configs/transfer.py:mapillary19+cityscapes+kitti,data=DIR
    python main.py --config=configs/transfer.py:cityscapes+kitti,data=DIR,start=RUN   starts from a finished run
    python main.py --config=configs/transfer.py:bdd100k+cityscapes,net=r50,data=DIR
    python main.py --config=configs/transfer.py:camvid,csst,data=DIR,start=RUN/student    a student of csst.py, or kitti

data: folder with the published files in DIR/mapillary, DIR/cityscapes and so on; without it $SEGJAX_MAPILLARY, ...
Each dataset is a training stage with its name, the last one "train", and is evaluated by evaluate_NAME or "evaluate".
A stage starts from the weights of the one before. If the number of classes differs, the classifier starts fresh: 65 ->
19 -> 11. mapillary19 maps Mapillary's labels to Cityscapes' 19 classes, so that the classifier is kept.
csst: fine-tunes as CSST does (v1, section 4.4): OHEM, centroid sampling, poly 0.9, lr 0.002, on CamVid or KITTI only.
Hours on 8 V100 (VPLR's release): Cityscapes 9 to 14. Expected: above 50 training mIoU on Mapillary.
"""

from ml_collections import ConfigDict

from configs import common, csst_training, vplr

# Epochs, crop, lr, scales, tile: VPLR's release for Mapillary and KITTI, the paper for Cityscapes and CamVid.
TASKS = {
    #              epochs  crop  lr     scales      tile
    "mapillary": (175, 896, 0.02, (0.5, 2.0), 1024),
    "mapillary19": (175, 896, 0.02, (0.5, 2.0), 1024),
    "bdd100k": (180, 720, 0.02, (0.5, 2.0), 1024),  # from no paper: as Cityscapes, crops as high as the images
    "cityscapes": (180, 800, 0.002, (0.5, 2.0), 1024),
    "camvid": (120, 640, 0.002, (0.5, 2.0), 0),
    "kitti": (90, 368, 0.001, (1.0, 2.0), 300),
}
# v1 of CSST, section 4.2, which states neither scales nor sampling of its fine-tuning: those of its other trainings
CSST = {"camvid": (80, 640, 0.002, (0.5, 2.0), 0), "kitti": (50, 368, 0.002, (0.5, 2.0), 0)}
SPLITS = {"kitti": ("cv2_train", "cv2_validation", "cv2_validation"), "camvid": ("train", "validation", "test")}
NETS = {
    "wrn38": "deeplabv3plus_wrn38",  # used for the submissions
    "srnx50": "deeplabv3plus_srnx50",
    "rnx50": "deeplabv3plus_rnx50",
    "r50": "deeplabv3plus_r50",
    "r18": "deeplabv3plus_r18",
    "fastscnn": "fastscnn",  # has no ImageNet weights
}

SHIPPED = ("", "camvid,csst")
SLOW = SHIPPED[1:]  # a debug run like that of any training

OPTIONS = dict(chain="mapillary+cityscapes", net="wrn38", data="", start="", csst=False, batch=16, debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    tasks = arg.chain.split("+")
    for task in tasks:
        common.pick("data set of csst" if arg.csst else "data set", task, CSST if arg.csst else TASKS)
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"the chain {arg.chain} names a data set twice; each stage needs its own.")
    net = NETS[common.pick("net", "fastscnn" if arg.debug else arg.net, NETS)]

    config = ConfigDict()
    config.seed = 0
    config.dataset = dataset(tasks[-1], arg)
    stages = []
    for number, task in enumerate(tasks):
        last = number == len(tasks) - 1
        name, evaluate = ("train", "evaluate") if last else (task, f"evaluate_{task}")
        config[name] = train(task, net, arg)
        if number:
            config[name].init.update(weights="", checkpoint=stages[-2])
        config[evaluate] = evaluation(task, arg, checkpoint=name)
        stages += [name, evaluate]
    config.stages = tuple(stages)
    return debug(config, tasks) if arg.debug else config


def dataset(task, arg):
    name = task.removesuffix("19")
    training, validation, test = SPLITS.get(name, ("train", "validation", "validation"))
    label_map = "mapillary_to_cityscapes" if task == "mapillary19" else ""
    options = dict(config="full") if name == "camvid" else {}  # 720x960
    splits = dict(train=training, validation=validation, test=test)
    return common.published_dataset(name, arg.data, label_map=label_map, **splits, **options)


def train(task, net, arg):
    epochs, crop, lr, scales, tile = (CSST if arg.csst else TASKS)[task]
    stage = ConfigDict(dict(kind="train", dataset=dataset(task, arg)))
    stage.total_epochs = epochs
    stage.batch_size = arg.batch
    stage.crop = dict(size=(crop, crop), scale_range=scales, schedule="constant")
    stage.sampler = dict(kind="class_uniform", tile=tile)

    stage.augment = dict(flip=True, color_jitter=dict(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25))
    stage.augment.blur = dict(sigma=(0.15, 1.3), probability=1.0)
    stage.normalisation = "imagenet"

    stage.model = dict(name=net, options={})
    weights = "" if arg.start or net == "fastscnn" else "imagenet"
    expected = vplr.EXPECTED.get(task, "")  # of the first stage: the others have the checkpoint of one before
    stage.init = dict(weights=weights, source="", checkpoint=arg.start, scope="all", skip=(), expected=expected)
    stage.dtype = "auto"
    stage.remat = common.any_type(False)

    stage.loss = dict(main=dict(name="relaxed_cross_entropy", on="heads", weight=1.0, options={}))
    if task.startswith("mapillary"):
        stage.loss.main = common.mapillary_loss()

    stage.optimizer = dict(
        name="sgd",
        lr=lr,
        options=dict(momentum=0.9, weight_decay=1e-4),
        schedule=dict(kind="poly", power=1.0, per="epoch"),
        lr_rules=((".*", 1.0),),
        decay_rules=((".*", 1.0),),
    )
    stage.accumulate_steps = 1
    stage.ema_decay = 0.0

    stage.mesh = dict(data=-1, space=1)
    stage.loader = dict(num_workers=0, num_threads=16, cache_bytes=2**30)
    stage.log_steps = 10
    stage.checkpoint_epochs = 5
    stage.eval_epochs = max(epochs // 5, 1)
    stage.eval_limit = 100
    stage.keep = 2
    return csst_training.loss_and_sampling(stage) if arg.csst else stage


def evaluation(task, arg, *, checkpoint):
    stage = dict(kind="evaluate", dataset=dataset(task, arg), checkpoint=checkpoint, split="test")
    stage.update(batch_size=1, worst=8, protocol="single", scales=(), flip=False, window=())
    if task == "cityscapes":
        stage.update(flip=True, window=(1024, 1024))
    if task.startswith("mapillary"):
        stage.update(window=(1536, 1536))  # images of up to 12 megapixels
    if task == "kitti":
        stage["protocol"] = "kitti_multi"
    return ConfigDict(stage)


def debug(config, tasks, also=()):
    """Sets small streets, with Cityscapes' 19 classes or the 39 of ROB 2018, so that classifiers are replaced.

    also: further stages on the last dataset, which then is the run's own.
    """
    common.shrink(config)
    for number, task in enumerate(tasks):
        name, evaluate = ("train", "evaluate") if number == len(tasks) - 1 else (task, f"evaluate_{task}")
        street = {**config.dataset.to_dict(), "label_map": "rob_bdd100k" if task in ("mapillary", "camvid") else ""}
        config[name].dataset = ConfigDict(street)
        config[evaluate].dataset = ConfigDict(street)
    for name in also:
        config[name].dataset = config.dataset = config.train.dataset
    return config


def sweep(add):
    """Adds the runs of the paper's Table 1: the gain of pre-training."""
    add("cityscapes")
    add("mapillary+cityscapes")
    add("mapillary19+cityscapes")
