"""GSVNet: Guided Spatially-Varying Convolution for Fast Semantic Segmentation on Video (Lee et al., ICIP 2021).

    python main.py --config=configs/gsvnet.py                            the embedded street; minutes on 2 CPU cores
    python main.py --config=configs/gsvnet.py:cityscapes,data=DIR        the paper's numbers; accelerators
    python main.py --config=configs/gsvnet.py:cityscapes,form=paper,data=DIR   as in the paper, not as released
    python main.py --config=configs/gsvnet.py:camvid                     CamVid at 360x480, on its one labelled video
    python main.py --config=configs/gsvnet.py:own,frames=drive.mp4,checkpoint=RUN   one's own video; no labels needed
    python main.py --config=configs/gsvnet.py:camvid,labels=teacher,frames=drive.mp4   one's own beside CamVid's

Stages: train (the keyframe network) -> train_gsvnet -> evaluate_video.

checkpoint: run or stage of a keyframe network, instead of training one. net: fastscnn, swiftnet (ResNet-18, published)
or efficientnet. scale: of keyframes. stride: pixels per cell of the grid, 8 or 4. form: released or paper, see
docs/gsvnet.md. model: gsvnet, or a baseline: warp, a_lite. labels: truth, or teacher: the classes of the keyframe
network on the last frame, so that no label is read. steps: of train_gsvnet; 0 = those of the preset. interval: longest
one that is evaluated.

CamVid, at 360x480: neighbours of labelled frames exist in the validation split only, a video at 15 Hz. Its first 60
frames are trained on and the others measured, at half the frame rate of the paper.
"""

from ml_collections import ConfigDict

from configs import common, vplr

#              net             scale  stride  crop         steps  batch
PRESETS = {
    "synthetic": ("fastscnn", 1.0, 4, (96, 192), 400, 8),
    "camvid": ("efficientnet", 1.0, 4, (272, 360), 400, 8),
    "cityscapes": ("swiftnet", 0.75, 8, (768, 1536), 0, 8),
    "own": ("", 1.0, 8, (272, 480), 400, 4),
}
NETS = {"fastscnn": "fastscnn", "efficientnet": "swiftnet_efficientnet_lite0", "swiftnet": "swiftnet_r18"}
FEATURES = {"fastscnn": ("ffm", 128), "efficientnet": ("up2", 128), "swiftnet": ("up2", 128)}  # for a_lite
MODELS = ("gsvnet", "warp", "a_lite")
FORMS = ("released", "paper")
LABELS = ("truth", "teacher")
EPOCHS = 400  # 100 of the released code, each of which goes through the snippets with 1, 2, 3 and 4 frames in turns
SCALES = (0.75, 1.0, 1.5, 1.75)
CITYSCAPES_WEIGHTS = (
    3.03871497, 13.01999212, 4.53008444, 38.00898985, 35.35990217, 31.14247824, 45.82106668, 39.44451896, 6.00002668,
    32.64759009, 17.34725897, 31.45715227, 47.0853521, 11.70166965, 44.50966853, 44.80501487, 45.63057065, 48.21080448,
    41.21912833,
)  # fmt: skip

SHIPPED = ("", "camvid", "cityscapes", "cityscapes,form=paper", "cityscapes,model=a_lite")
SLOW = SHIPPED[1:]  # debug runs of the same stages

OPTIONS = dict(preset="synthetic", net="", checkpoint="", data="", frames="", scale=0.0, stride=0, form="released")
OPTIONS.update(model="gsvnet", labels="", steps=0, interval=5, debug=False)


def get_config(arg=None):
    arg = checked(common.parse_arg(arg, **OPTIONS))
    config = ConfigDict(dict(seed=0, stages=()))
    config.dataset = dataset(arg)
    if not arg.checkpoint:
        add(config, "train", keyframe_training(arg))
    add(config, "train_gsvnet", training(arg))
    if arg.preset != "own":
        add(config, "evaluate_video", evaluation(arg))
    return debug(config, arg) if arg.debug else config


def checked(arg):
    """Returns the options with the defaults of their preset. Raises ValueError for those that do not fit."""
    net, scale, stride, *_ = PRESETS[common.pick("preset", arg.preset, PRESETS)]
    if arg.preset == "own" and not (arg.checkpoint and arg.frames):
        raise ValueError("the preset own needs frames=VIDEO OR FOLDER and checkpoint=RUN, a trained network.")
    arg.net = common.pick("net", arg.net or net or "fastscnn", NETS)
    common.pick("form", arg.form, FORMS)
    common.pick("model", arg.model, MODELS)
    labels = "teacher" if arg.preset == "own" else "truth"
    arg.labels = common.pick("labels", arg.labels or labels, LABELS)
    arg.update(scale=arg.scale or scale, stride=arg.stride or stride)
    if arg.frames and arg.labels == "truth":
        raise ValueError("videos given as frames=... have no labels; add labels=teacher.")
    return arg


def dataset(arg):
    if arg.preset == "cityscapes":
        found = common.published_dataset("cityscapes", arg.data, parts=("fine", "sequence"), neighbours=5)
        return found
    # of the preset own, the street stands here and is not read
    return common.published_dataset("camvid", arg.data) if arg.preset == "camvid" else common.synthetic_dataset()


def add(config, name, section):
    config[name] = section
    config.stages = (*config.stages, name)


def keyframe_training(arg):
    """Returns the training of the keyframe network: that of vplr.py, and for SwiftNet that of its paper."""
    net = "r18" if arg.net == "swiftnet" else arg.net
    options = dict(synthetic="synthetic,propagate=none").get(arg.preset, arg.preset)
    stage = vplr.get_config(f"{options},net={net}").train
    stage.init.expected = ""  # ImageNet weights are those of its paper
    if arg.net == "swiftnet":  # Orsic et al., CVPR 2019: Adam 4e-4, trunk a quarter, cosine over 250 epochs, batch 14
        stage.model = dict(name=NETS["swiftnet"], options={})
        stage.normalisation = "swiftnet"
        stage.total_epochs, stage.batch_size, stage.eval_epochs = 250, 14, 50
        stage.crop = dict(size=(768, 768), scale_range=(0.5, 2.0), schedule="constant")
        stage.sampler = dict(kind="uniform")
        stage.augment = dict(flip=True, color_jitter={}, blur={})
        stage.loss = dict(main=dict(name="cross_entropy", on="heads", weight=1.0, options={}))
        trunk = ((r"backbone/(conv1|bn1|layer\d).*", 0.25), (".*", 1.0))
        stage.optimizer = dict(name="adam", lr=4e-4, options=dict(weight_decay=1e-4, b1=0.9, b2=0.99))
        stage.optimizer.update(schedule=dict(kind="cosine", per="epoch", final=2.5e-3))
        stage.optimizer.update(lr_rules=trunk, decay_rules=trunk)
    return stage


def training(arg):
    """Returns the training of the propagation: as released, or as in the paper (section 4.1)."""
    _, _, _, crop, steps, batch = PRESETS[arg.preset]
    stage = ConfigDict(dict(kind="train_gsvnet", frames=arg.frames, batch_size=batch))
    stage.keyframe = dict(checkpoint=arg.checkpoint or "train", scale=arg.scale, train_scale=1.0)
    stage.update(split={"camvid": "validation[:60]", "own": ""}.get(arg.preset, "train"), frame_step=0)
    # CamVid's other frames are for the measurement
    stage.eval_split = "" if arg.preset in ("camvid", "own") else "validation"
    paper = arg.form == "paper"
    stage.update(intervals=(1, 2, 3, 4, 5) if paper else (1, 2, 3, 4), order="mixed" if paper else "blocks")
    stage.update(gradient_steps=0 if paper else 2, labels=arg.labels)
    stage.crop = dict(size=crop, schedule="constant")
    stage.scales = (1.0,) if paper else SCALES
    stage.augment = dict(flip=0.4, color_jitter={}, blur={})
    stage.model = dict(name=arg.model, options=dict(stride=arg.stride))
    if arg.model == "gsvnet":
        stage.model.options.form = arg.form
    if arg.model == "a_lite":
        feature, channels = FEATURES[arg.net]
        channels = 96 if (arg.net, arg.preset) == ("efficientnet", "camvid") else channels  # its narrow decoder
        stage.model.options.update(feature=feature, feature_channels=channels)
    stage.init = dict(weights="", key="", source="", checkpoint="", scope="all", skip=())
    stage.dtype = "auto"
    stage.remat = common.any_type(False)
    stage.loss = dict(main=dict(name="cross_entropy", weight=1.0, options={}))
    if not paper:
        stage.loss.main.weight = 10.0
        stage.loss.teacher = dict(name="distillation", weight=100.0, options={})
        if arg.preset == "cityscapes":
            stage.loss.main.options.class_weights = CITYSCAPES_WEIGHTS
    stage.optimizer = optimizer(arg, paper)
    stage.ema_decay = 0.0
    stage.mesh = dict(data=-1)
    stage.loader = dict(num_workers=0, num_threads=16 if arg.preset == "cityscapes" else 2, cache_bytes=2**30)
    stage.update(log_steps=10, eval_limit=100, keep=2)
    if steps or arg.steps:
        steps = arg.steps or steps
        stage.update(total_steps=steps, checkpoint_steps=max(steps // 4, 1), eval_steps=max(steps // 2, 1))
    else:
        stage.update(total_epochs=EPOCHS, checkpoint_epochs=4, eval_epochs=EPOCHS // 5)
    return stage


def optimizer(arg, paper):
    """Returns the optimizer: the released one, the paper's, or ours for some hundred steps."""
    if arg.preset != "cityscapes":  # ours: the flow, from scratch at 1e-4, would learn nothing in so few steps
        section = dict(name="adam", lr=2e-3, options=dict(weight_decay=1e-4))
        section.update(schedule=dict(kind="poly", power=0.9, per="step", warmup_steps=20))
        return dict(section, lr_rules=((".*", 1.0),), decay_rules=((".*", 1.0),))
    rules = ((".*", 1.0),) if paper else (("ofnet/.*", 0.01), (r"grm/guide\..*", 4.0), (".*", 1.0))
    section = dict(name="sgd", lr=0.002 if paper else 0.01)
    section.update(options=dict(momentum=0.9, nesterov=not paper, weight_decay=5e-4))
    section.update(schedule=dict(kind="steps", per="step", factor=0.992, every=100))
    return dict(section, lr_rules=rules, decay_rules=((".*", 1.0),))


def evaluation(arg):
    stage = dict(kind="evaluate_video", checkpoint="train_gsvnet", interval=arg.interval, batch_size=1, frame_step=0)
    stage.update(split={"synthetic": "test", "camvid": "validation[60:]"}.get(arg.preset, "validation"))
    stage.update(consistency="exact" if arg.preset == "synthetic" else "dis", timed=20, pictures=4, edges=True)
    stage.update(baselines=("every", "grid", "copy", "warp", "warp_dis"), scales=(1.0, 0.75, 0.6, 0.5))
    return ConfigDict(stage)


def debug(config, arg):
    """Sets a minute: the tiny street, few steps."""
    common.shrink(config)
    config.dataset.options.update(frames=9)
    stage = config.train_gsvnet
    for key in [key for key in stage if key.startswith(("total_", "checkpoint_", "eval_"))]:
        del stage[key]
    stage.update(total_steps=3, checkpoint_steps=2, eval_steps=2, eval_limit=2, log_steps=1, batch_size=2)
    stage.update(split="train", eval_split="validation", crop=dict(size=(64, 64), schedule="constant"))
    stage.intervals = (1, 2)
    stage.mesh = dict(data=1)
    if "evaluate_video" in config:
        config.evaluate_video.update(split="test", interval=2, limit=2, timed=2, pictures=1, scales=(1.0,))
        config.evaluate_video.baselines = ("every", "copy")
    return config


def sweep(add):
    """Adds the runs of Tables 1 and 4 and appendix B."""
    for net in ("swiftnet",):
        add(f"cityscapes,net={net}")
    add("cityscapes,form=paper")
    add("cityscapes,model=a_lite")
    add("cityscapes", **{"train_gsvnet.model.options.intra": False})  # Table 4
    add("cityscapes", **{"train_gsvnet.model.options.learn_kernels": True})  # Table A5
    for size in (3, 5):  # Table A6
        add(
            "cityscapes",
            **{"train_gsvnet.model.options.learn_kernels": True, "train_gsvnet.model.options.kernel_size": size},
        )
    add("cityscapes", **{"train_gsvnet.model.options.flow": "flownets"})  # Fig. 3
