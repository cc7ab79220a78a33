"""VPLR: Improving Semantic Segmentation via Video Propagation and Label Relaxation (Zhu et al., CVPR 2019).

    python main.py --config=configs/vplr.py                          the embedded street; minutes on 2 CPU cores
    python main.py --config=configs/vplr.py:propagate=none           the same without propagated labels
    python main.py --config=configs/vplr.py:camvid                   the paper's CamVid numbers; an accelerator
    python main.py --config=configs/vplr.py:camvid,net=fastscnn      from scratch, 20 minutes on 2 cores
    python main.py --config=configs/vplr.py:camvid,net=efficientnet  from ImageNet weights, 21 minutes on 2 cores;
                                                                     add --cpu_devices=NUMBER OF CORES
    python main.py --config=configs/vplr.py:mapillary,data=DIR             the weights to start Cityscapes from
    python main.py --config=configs/vplr.py:cityscapes,data=DIR            the paper's numbers; accelerators
    python main.py --config=configs/vplr.py:cityscapes,released,data=DIR   those of the published scripts
    python main.py --config=configs/vplr.py:cityscapes,submission,data=DIR  WRN38, labels propagated to +-3, all scales
    python main.py --config=configs/vplr.py:kitti,data=DIR --config.train.init.checkpoint=RUN   fine-tunes on KITTI
    python main.py --config=configs/vplr.py:own,images=DIR,masks=DIR,label_map=FILE   your own images and masks

Stages: train (boundary label relaxation, class-uniform sampling) -> evaluate. With propagate=METHOD (prediction, flow,
or reconstruction, the street's default) and a dataset with neighbouring frames: train_video -> propagate -> train ->
evaluate. k=3 propagates labels to t - 3 and t + 3. finetune adds a stage that trains the video network on features.
Neighbouring frames: Cityscapes' leftImg8bit_sequence is in data=DIR; CamVid's (720x960) and those of KITTI's multi-view
extension are in a separate folder, frames=DIR. cityscapes,coarse adds places of rare classes in the coarsely labelled
images, until epoch 150. cityscapes,submission trains on the split cv2 (appendix C), whose official validation cities
have no propagated labels, as released.
In the paper Cityscapes starts from Mapillary, CamVid and KITTI from Cityscapes. Those weights were not released, so a
training without a checkpoint begins with a warning. The whole chains are vplr_table1.py (Cityscapes), vplr_camvid.py
and vplr_kitti.py; the ablations are vplr_ablation.py. Results: README.md.

Other than in the paper:
all: the ranges of colours and blur, tiles and sliding windows are the release's, since the paper states none.
camvid, kitti: ResNeXt50; the paper's 81.7 (CamVid) and 72.8 (KITTI) are WideResNet38, net=wrn38.
camvid: 360x480 and half the crop without propagate; net=fastscnn and efficientnet have crops, colours, optimizer and
    strict classes of their own.
kitti: learning rate, scales 1 to 2, tiles and split 2 of the release, with relaxation, which the release leaves out.
mapillary: all from the release; the paper says no more than that it pre-trains.
propagate: OpenCV's DIS in place of FlowNet2; the loss and time reversal (reverse=0.5) of the released video network;
    images are interpolated once for all steps (rgb_warp="composed").
synthetic: a small video network with other weights of its loss, a learning rate for networks from scratch, and the same
    number of steps with and without propagated labels. The paper keeps the epochs, which then have 3 times the steps.
"""

from ml_collections import ConfigDict

from configs import common, vplr_labels

# Paper, section 4.1: SGD 0.002 to 0 by poly 1.0, momentum 0.9, decay 1e-4, batch 16, scale 0.5-2, flip, blur, jitter.
PRESETS = {
    #            epochs  crop        default network
    "synthetic": (60, (128, 256), "fastscnn"),
    "camvid": (120, (320, 320), "deeplabv3plus_rnx50"),  # 640 at 720x960 is 320 at 360x480
    "mapillary": (175, (896, 896), "deeplabv3plus_rnx50"),
    "cityscapes": (180, (800, 800), "deeplabv3plus_rnx50"),
    "kitti": (90, (368, 368), "deeplabv3plus_rnx50"),
    "own": (90, (320, 320), "deeplabv3plus_r18"),
}

NETS = {
    "fastscnn": "fastscnn",
    "efficientnet": "swiftnet_efficientnet_lite0",
    "r18": "deeplabv3plus_r18",
    "r50": "deeplabv3plus_r50",
    "rnx50": "deeplabv3plus_rnx50",  # "ResNeXt50" of the paper's ablations, as described there
    "srnx50": "deeplabv3plus_srnx50",  # the same as released
    "wrn38": "deeplabv3plus_wrn38",  # used for the submissions
}
EXPECTED = {  # what the paper's trainings start from
    "camvid": "a network trained on Cityscapes",
    "cityscapes": "a network trained on Mapillary Vistas",
    "kitti": "a network trained on Cityscapes",
}
REACH = {"synthetic": 7, "cityscapes": 10, "kitti": 10}  # frames on the shorter side of a label, or the longest chain
METHODS = ("reconstruction", "prediction", "flow")

SHIPPED = (
    "",
    "propagate=none",
    "own",
    "camvid",
    "camvid,net=fastscnn",
    "camvid,net=efficientnet",
    "mapillary",
    "cityscapes",
    "cityscapes,released",
    "kitti",
    "camvid,net=fastscnn,propagate=reconstruction",
    "cityscapes,submission",
    "kitti,net=fastscnn,propagate=flow",
)
SLOW = ("cityscapes,submission", "mapillary")  # debug runs that take more than a minute, or that vplr_table1.py has

OPTIONS = dict(
    preset="synthetic",
    net="",
    data="",
    images="",
    masks="",
    label_map="",
    batch=0,
    released=False,
    submission=False,
    coarse=False,
    propagate="",
    k=0,
    finetune=False,
    frames="",
    debug=False,
)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    common.pick("preset", arg.preset, PRESETS)
    if arg.submission:
        arg.update(net=arg.net or "wrn38", propagate=arg.propagate or "reconstruction", k=arg.k or 3)
    method = arg.propagate or ("reconstruction" if arg.preset == "synthetic" else "none")
    common.pick("propagate", method, (*METHODS, "none"))
    if (arg.k or arg.frames or arg.finetune) and method == "none":
        raise ValueError("the options k, frames and finetune are for propagate=METHOD, which is not given.")
    if arg.finetune and method == "flow":
        raise ValueError("finetune is for a video network, and propagate=flow has none.")
    if arg.k < 0 or arg.k > REACH.get(arg.preset, arg.k):
        limit = f" to {REACH[arg.preset]}, as far as the frames around a label reach" if arg.preset in REACH else ""
        raise ValueError(f"recipe option k={arg.k} must be a number of frames from 1{limit}.")
    for name in ("released", "submission", "coarse"):
        if arg[name] and arg.preset != "cityscapes":
            raise ValueError(f"the option {name} belongs to the preset cityscapes; write cityscapes,{name}.")
    epochs, crop, default_net = PRESETS[arg.preset]
    net = NETS[common.pick("net", arg.net, NETS)] if arg.net else default_net
    light = net in ("fastscnn", "swiftnet_efficientnet_lite0")  # trained in minutes on a CPU

    config = ConfigDict()
    config.seed = 0
    config.stages = ("train", "evaluate")
    config.dataset = dataset(arg)

    config.train = train = ConfigDict(dict(kind="train"))
    train.total_epochs = epochs
    train.batch_size = arg.batch or (8 if light else 16)
    train.crop = dict(size=crop, scale_range=(0.5, 2.0), schedule="constant")
    train.sampler = dict(kind="class_uniform", tile=1024 if arg.preset in ("cityscapes", "mapillary") else 0)

    train.augment = dict(flip=True, color_jitter=dict(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25))
    train.augment.blur = dict(sigma=(0.15, 1.3), probability=1.0)
    train.normalisation = "imagenet"

    train.model = dict(name=net, options={})
    train.init = dict(weights="", source="", checkpoint="", scope="all", skip=(), expected="")
    if arg.preset in ("camvid", "mapillary", "cityscapes") and not light:
        train.init.weights = "imagenet"  # of the trunk; the paper's Mapillary weights were not released
    if not (arg.preset == "camvid" and light):  # those have scores of their own, from scratch and from ImageNet
        train.init.expected = EXPECTED.get(arg.preset, "")
    train.dtype = "auto"  # bfloat16 convolutions on accelerators, float32 on CPU
    train.remat = common.any_type(False)

    train.loss = dict(main=dict(name="relaxed_cross_entropy", on="heads", weight=1.0, options={}))

    train.optimizer = dict(
        name="sgd",
        lr=0.002,
        options=dict(momentum=0.9, weight_decay=1e-4),
        schedule=dict(kind="poly", power=1.0, per="epoch"),
        lr_rules=((".*", 1.0),),
        decay_rules=((".*", 1.0),),
    )
    train.accumulate_steps = 1
    train.ema_decay = 0.0

    train.mesh = dict(data=-1, space=1)
    train.loader = dict(num_workers=0, num_threads=2 if light else 16, cache_bytes=2**30)
    train.log_steps = 10
    train.checkpoint_epochs = 5
    train.eval_epochs = max(epochs // 5, 1)
    train.eval_limit = 100  # images of the validation split
    train.keep = 2

    config.evaluate = dict(kind="evaluate", checkpoint="train", split="test", batch_size=8, worst=8)
    config.evaluate.update(protocol="single", scales=(), flip=False, window=())  # the last three add to the protocol
    published = arg.preset in ("cityscapes", "kitti") and not arg.images
    config.evaluate.update(benchmark=arg.preset if published else "", boundary=False)  # scores of a server; of outlines

    if arg.preset == "synthetic":
        small_street(config)
    elif arg.preset == "camvid" and light:
        common.camvid_on_cpu(config.train, net)
    elif arg.preset in ("mapillary", "cityscapes", "kitti", "own"):
        config.evaluate.split = "validation"
    if arg.preset == "cityscapes":
        config.evaluate.update(batch_size=1, flip=True, window=(1024, 1024))
    if arg.preset == "mapillary":
        pretrain_on_mapillary(config)
    if arg.preset == "kitti":
        finetune_on_kitti(config)
    if arg.released:
        as_released(config.train)
    if arg.submission:
        config.train.remat = True  # WRN38 with crops of 800 x 800 at stride 8
        config.evaluate.update(protocol="cityscapes_multi", flip=False, window=())  # both are part of the protocol
    if method != "none":
        vplr_labels.with_propagation(config, method, arg.k or 1, arg)
    if arg.coarse:
        vplr_labels.with_coarse_labels(config)
    return common.shrink(config, keep_data=bool(arg.images or arg.data)) if arg.debug else config


def dataset(arg):
    if arg.preset == "synthetic":
        return common.synthetic_dataset()
    if arg.preset == "camvid":
        return dict(name="camvid", options={}, train="train", validation="validation", test="test", data_dir="")
    if arg.preset == "mapillary":
        options = dict(source_dir=arg.data, partial=False)
        return dict(
            name="mapillary", options=options, train="train", validation="validation", test="validation", data_dir=""
        )
    if arg.preset in ("cityscapes", "kitti") and not arg.images:
        second = arg.preset == "kitti" or arg.submission
        train, validation = ("cv2_train", "cv2_validation") if second else ("train", "validation")
        return dict(
            name=arg.preset,
            options=dict(source_dir=arg.data, partial=False, instances=False),  # instances: for iIoU
            train=train,
            validation=validation,
            test=validation,
            data_dir="",
        )
    label_map = arg.label_map or ("cityscapes" if arg.preset in ("cityscapes", "kitti") else "")
    return common.own_dataset(arg.images, arg.masks, label_map)


def pretrain_on_mapillary(config):
    """Sets the release's training on Mapillary: a higher learning rate, and no relaxation."""
    train = config.train
    train.optimizer.lr = 0.02
    train.loss.main = common.mapillary_loss()
    config.evaluate.update(batch_size=1, window=(1536, 1536))  # images of up to 12 megapixels


def finetune_on_kitti(config):
    """Sets fine-tuning from a Cityscapes run: small crops of enlarged images; split 2 of the three released."""
    train = config.train
    train.optimizer.lr = 0.001
    train.crop.scale_range = (1.0, 2.0)
    train.sampler.tile = 300
    config.evaluate.update(batch_size=1, protocol="kitti_multi")


def small_street(config):
    """Sets a run of minutes on 2 cores: fewer pixels and epochs, and a learning rate for a network from scratch."""
    train = config.train
    train.optimizer.lr = 0.045
    train.optimizer.schedule = dict(kind="poly", power=0.9, per="step", warmup_steps=20)
    train.sampler = dict(kind="class_uniform", tile=64)
    train.augment = dict(flip=True, color_jitter={}, blur={})
    train.crop.scale_range = (0.75, 2.0)
    train.checkpoint_epochs = 10


def as_released(train):
    """Sets what the published scripts have other than the paper: loss, its switch at epoch 100, lr, crop, length."""
    train.total_epochs = 175
    train.crop.size = (896, 896)
    train.optimizer.lr = 0.001
    train.optimizer.schedule = dict(kind="scl_poly", per="epoch", restart_epoch=100)
    train.loss.main.options = dict(
        mode="reference",
        images_per_device=2,  # the released loss depends on it
        upper_bound=1.0,
        strict_classes=(5, 6, 7, 11, 12, 17, 18),  # pole, light, sign, person, rider, motorcycle, bicycle
        off_epoch=100,
    )


def sweep(add):
    """Adds the paper's ablations that need no propagated labels: relaxation (figure 4 at 0) and sampling (table 1)."""
    for seed in (0, 1, 2):
        add("camvid,net=fastscnn", seed=seed)
        add("camvid,net=fastscnn", **{"seed": seed, "train.loss.main.name": "cross_entropy"})
        add("camvid,net=fastscnn", **{"seed": seed, "train.sampler.kind": "uniform"})
