"""The trainings of csst.py: networks, loss, sampling, optimizer and length.

Marked "a guess": what neither version of the paper states.
"""

from ml_collections import ConfigDict

from configs import common

# Sections 4.2, 4.4 and 4.5. A crop of 640 at CamVid's full size is 320 at half of it
#                epochs  crop
LENGTHS = {
    "synthetic": (0, (128, 256)),
    "camvid": (90, (320, 320)),
    "own": (90, (320, 320)),
    "cityscapes": (180, (800, 800)),
    "voc2012": (50, (480, 480)),
    "bdd100k": (180, (800, 800)),
    "mapillary": (180, (800, 800)),
}
STEPS = {"synthetic": 400, "camvid": 600}  # of a light network on a CPU, the same for teacher and student
# v2, Table 6; its crops and epochs are those of Cityscapes. The other networks have the values of section 4.2.
#                name of the network           lr     decay  crop   epochs  batch
NETS = {
    "fastscnn": ("fastscnn", 0.045, 4e-5, 1024, 1000, 16),
    "icnet": ("icnet_r50", 0.01, 1e-4, 769, 120, 16),
    "bisenet": ("bisenet_r18", 0.025, 1e-4, 1024, 120, 16),
    "pspnet": ("pspnet_r101", 0.01, 1e-4, 769, 180, 16),
    "wrn38": ("deeplabv3plus_wrn38", 0.02, 1e-4, 800, 180, 8),
    "ocr": ("hrnet_w48_ocr", 0.01, 5e-4, 769, 180, 8),
    "rnx50": ("deeplabv3plus_rnx50", 0.02, 1e-4, 800, 180, 16),
    "deeplabv2": ("deeplabv2_r101", 0.02, 1e-4, 800, 180, 16),  # v2, Table 7
    "deeplabv3": ("deeplabv3_r101", 0.02, 1e-4, 800, 180, 16),  # v2, Table 9
    "encnet": ("encnet_r101", 0.02, 1e-4, 800, 180, 16),  # v2, Table 9
    "r18": ("deeplabv3plus_r18", 0.02, 1e-4, 800, 180, 16),
    "efficientnet": ("swiftnet_efficientnet_lite0", 0.02, 1e-4, 800, 180, 16),
}
SAMPLING = ("centroid", "uniform")
JITTER = dict(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1)
BLUR = dict(sigma=(0.15, 1.3), probability=0.5)  # a guess: the paper states no numbers
OHEM = dict(threshold=0.7, min_kept=100_000)  # a guess: the paper names the loss, and no number of pixels


def training(arg, net, extra):
    """Returns a training stage on the real labels and on extra parts."""
    epochs, crop = LENGTHS[arg.preset]
    name, lr, decay, own_crop, own_epochs, batch = NETS[net]
    if arg.preset == "cityscapes":
        crop, epochs = (own_crop, own_crop), own_epochs
    if arg.preset == "camvid" and arg.v1:
        epochs = 80
    stage = ConfigDict(dict(kind="train", batch_size=arg.batch or batch, total_epochs=epochs))
    stage.crop = dict(size=crop, scale_range=(0.5, 2.0), schedule=arg.schedule, warmup_epochs=20 if arg.v1 else 0)
    stage.sampler = sampler(arg, extra)
    if extra:
        stage.extra = extra
    stage.augment = dict(flip=True, color_jitter=JITTER, blur=BLUR)
    stage.normalisation = "caffe" if net == "deeplabv2" else "imagenet"
    stage.model = dict(name=name, options={})
    stage.init = dict(weights="" if net == "fastscnn" else "imagenet", source="", checkpoint="", scope="all", skip=())
    stage.dtype = "auto"
    stage.remat = common.any_type(net == "wrn38")
    stage.loss = dict(main=dict(name="ohem_cross_entropy", on="heads", weight=1.0, options=OHEM))
    stage.optimizer = dict(
        name="sgd",
        lr=lr,
        options=dict(momentum=0.9, weight_decay=decay),
        schedule=dict(kind="poly", power=0.9, per="epoch"),
        lr_rules=((".*", 1.0),),
        decay_rules=((".*", 1.0),),
    )
    stage.accumulate_steps = 1
    stage.ema_decay = 0.0
    stage.mesh = dict(data=-1, space=1)
    stage.loader = dict(num_workers=0, num_threads=2 if light(arg, net) else 16, cache_bytes=2**30)
    stage.log_steps = 10
    stage.checkpoint_epochs = 5
    stage.eval_epochs = max(epochs // 5, 1)
    stage.eval_limit = 100  # images of the validation split
    stage.keep = 2
    if light(arg, net):
        minutes(stage, arg, net)
    return with_steps(stage, arg.steps or STEPS[arg.preset]) if light(arg, net) or arg.steps else stage


def loss_and_sampling(stage):
    """Sets what all trainings of the paper share, on labels alone, for a recipe that continues with a student."""
    stage.loss = dict(main=dict(name="ohem_cross_entropy", on="heads", weight=1.0, options=OHEM))
    stage.sampler = dict(kind="mixed", parts=dict(real=dict(kind="centroid", ratio=1.0)))
    stage.augment = dict(flip=True, color_jitter=JITTER, blur=BLUR)
    stage.optimizer.schedule.power = 0.9
    return stage


def sampler(arg, extra):
    """Returns the section `sampler`: centroids of every part, `ratio` times as many of extra parts as of real ones."""
    half = arg.v1 and extra  # of the real images, drawn uniformly
    parts = dict(real=dict(kind="uniform", ratio=0.5) if half else dict(kind=arg.sampling, ratio=1.0))
    for name, part in extra.items():
        online = part.get("labels") == "online"  # no places are known
        share = arg.ratio * parts["real"]["ratio"] / len(extra)
        parts[name] = dict(kind="uniform" if online else arg.sampling, ratio=share)
    return dict(kind="mixed", parts=parts)


def minutes(stage, arg, net):
    """Sets a run of minutes on 2 cores: fewer steps, and a learning rate per step."""
    if arg.preset == "camvid":
        common.camvid_on_cpu(stage, net)
        stage.crop.size = (264, 320)
        stage.loss.main.options = ConfigDict(OHEM)
    else:
        stage.optimizer.schedule = dict(kind="poly", power=0.9, per="step", warmup_steps=20)
        stage.augment = dict(flip=True, color_jitter={}, blur={})
        stage.crop.scale_range = (0.75, 2.0)
    stage.batch_size = arg.batch or 8


def with_steps(stage, steps):
    """Sets the length of a training in steps instead of epochs."""
    for key in [key for key in stage if key.endswith("_epochs")]:
        del stage[key]
    stage.update(total_steps=steps, checkpoint_steps=max(steps // 4, 1), eval_steps=max(steps // 2, 1))
    return stage


def adaptation(arg, start):
    """Returns the fine-tuning on the labels of the target domain (section 4.6: without OHEM and other options)."""
    stage = training(arg, arg.net, {})
    stage.init.update(weights="", checkpoint=start)
    stage.optimizer.lr *= 0.1
    stage.sampler = dict(kind="uniform")
    stage.loss = dict(main=dict(name="cross_entropy", on="heads", weight=1.0, options={}))
    stage.crop.schedule = "constant"
    return stage


def light(arg, net):
    """Whether a training is one of minutes on a CPU."""
    return arg.preset == "synthetic" or (arg.preset == "camvid" and net in ("fastscnn", "efficientnet"))
