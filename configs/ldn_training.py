"""The training of ldn.py: networks, crops, loss, optimizer and length.

Marked "ours": what the paper leaves out.
"""

from ml_collections import ConfigDict

from configs import common

# Sections 5.1 to 5.5. Epochs from ImageNet and from random weights; whole: size of the images.
#                        epochs      crop        whole         network   layout   lr of the trunk
PRESETS = {
    "synthetic": ((30, 30), (128, 256), (128, 256), "thin", "32to4", 1.0),
    "camvid_half": ((400, 800), (352, 480), (360, 480), "ldn121", "32to4", 0.25),  # the paper's: layout=16to2
    "camvid": ((400, 800), (512, 512), (720, 960), "ldn121", "32to4", 0.25),
    "cityscapes_half": ((300, 300), (448, 448), (512, 1024), "ldn121", "32to4", 0.25),
    "cityscapes": ((300, 300), (768, 768), (1024, 2048), "ldn121", "64to4", 0.25),
    "voc2012": ((100, 100), (512, 512), (512, 512), "ldn161", "32to4", 0.125),
    "cross": ((300, 300), (448, 448), (512, 1024), "ldn121", "64to4_s4", 0.25),
    "rob2018": ((300, 300), (768, 768), (1024, 2048), "ldn169", "64to4", 0.25),
}
NETS = {
    **{name: name for name in ("ldn121", "ldn161", "ldn169", "lrn18", "lrn50", "lrn101")},
    "dpn68": "ldn_dpn68",
    "efficientnet": "ldn_efficientnet_lite0",  # ours, for ImageNet weights that a package has
    "thin": "ldn121",
}
THIN = dict(growth=8, blocks=(3, 3, 3, 3), width=48)  # of minutes on a CPU
DENSE = ("ldn121", "ldn161", "ldn169", "thin")
AUGMENTATIONS = ("none", "flip", "crop", "scale")  # Table 10: each has those before it
INITS = ("imagenet", "random")
WEIGHT_DECAY = 1e-4  # ours: the paper states neither this nor the betas; SwiftNet's of the same group
BETAS = dict(b1=0.9, b2=0.99)  # ours: the same
FINAL = 1e-6 / 4e-4  # ours: the end of the cosine, SwiftNet's rate
CPU_EPOCHS = 50  # ours: of EfficientNet-Lite0 on CamVid, some two hours on 2 cores


def training(arg):
    """Returns a training stage with the paper's settings (section 5.1)."""
    (fine, long), crop, whole, _, _, trunk_rate = PRESETS[arg.preset]
    random = arg.init == "random"
    light = arg.net == "thin" or (arg.net == "efficientnet" and arg.preset == "camvid_half")
    epochs = arg.epochs or (long if random else fine)
    if light and arg.preset == "camvid_half":
        epochs = arg.epochs or CPU_EPOCHS
    stage = ConfigDict(dict(kind="train", total_epochs=epochs, batch_size=arg.batch or (8 if light else 16)))
    crops = AUGMENTATIONS.index(arg.augment)
    stage.crop = dict(size=crop if crops >= 2 else whole, scale_range=(0.5, 2.0) if crops >= 3 else (1.0, 1.0))
    stage.sampler = dict(kind="uniform")
    stage.augment = dict(flip=crops >= 1, color_jitter={}, blur={})
    stage.normalisation = "efficientnet_lite" if arg.net == "efficientnet" else "ldn"
    stage.model = dict(name=NETS[arg.net], options=model_options(arg))
    stage.init = dict(weights="" if random else "imagenet", source="", checkpoint="", scope="all", skip=())
    stage.dtype = "auto"
    stage.remat = common.any_type(arg.remat or False)
    # 0.6 of the last logits, 0.4 of the mean over the auxiliary heads, which are compared with soft targets (eq. 1)
    stage.loss = dict(main=dict(name="cross_entropy", on="heads", weight=1.0, options={}))
    rate = 1.0 if random else trunk_rate  # of pretrained weights
    stage.optimizer = dict(
        name="amsgrad",
        lr=2e-3 if arg.preset == "synthetic" else 4e-4,
        options=dict(weight_decay=WEIGHT_DECAY, **BETAS),
        schedule=dict(kind="cosine", per="epoch", final=FINAL),
        lr_rules=((r"(features\.|backbone/).*", rate), (".*", 1.0)),
        decay_rules=((r"(features\.|backbone/).*", rate), (".*", 1.0)),
    )
    stage.accumulate_steps = 1
    stage.ema_decay = 0.0
    stage.mesh = dict(data=-1, space=1)
    stage.loader = dict(num_workers=0, num_threads=2 if light else 16, cache_bytes=2**30)
    stage.log_steps = 10
    stage.checkpoint_epochs = max(epochs // 60, 1)
    stage.eval_epochs = max(epochs // 5, 1)
    stage.eval_limit = 100  # images of the validation split
    stage.keep = 2
    return stage


def model_options(arg):
    options = dict(THIN) if arg.net == "thin" else {}
    if arg.layout:
        options["layout"] = arg.layout
    if arg.form:
        options["form"] = arg.form
    if arg.init == "random" and arg.net in DENSE:
        options["random_init"] = True
    if arg.preset == "voc2012":
        options.update(grid_rows=(6, 3, 2, 1), square_grids=True)
    return options
