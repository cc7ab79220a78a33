"""CamVid as in VPLR (Zhu et al., CVPR 2019, table 4): Mapillary -> Cityscapes -> CamVid with propagated labels.

    python main.py --config=configs/vplr_camvid.py:data=DIR,frames=VIDEOS --workdir=runs/camvid
    python main.py --config=configs/vplr_camvid.py:data=DIR,frames=VIDEOS,start=RUN,video=RUN/train_video
    python main.py --config=configs/vplr_camvid.py:data=DIR,baseline   without propagated labels and relaxation

Stages: train_video (reconstruction, on Cityscapes' sequences only), propagate (CamVid's labels, with that network),
mapillary, cityscapes and train, each evaluated; evaluate is the table's single-scale score, evaluate_multi that of all
scales. data: folder with DIR/mapillary, DIR/cityscapes and DIR/camvid (720x960).
frames: CamVid's videos. start: a finished run on Cityscapes in place of the first two trainings, such as that of
vplr.py:cityscapes,submission. video: a finished train_video.
Expected on the test split: 81.7 and 82.9 mIoU, 79.8 for the baseline.

Guesses: k=3 (the release's folder is called aug3), and that Cityscapes is trained without propagated labels. As in the
release propagated frames add places of classes, and epochs are as long as without them. Other than in the release, the
network trains on the 367 images of the standard split; trainval adds the 101 of the validation split.
"""

from ml_collections import ConfigDict

from configs import ablation, common, transfer, vplr

SHIPPED = ("", "baseline")
SLOW = ("baseline",)  # less than the other

OPTIONS = dict(data="", frames="", net="wrn38", start="", video="", k=3, batch=16)
OPTIONS.update(baseline=False, trainval=False, debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    if arg.baseline and (arg.frames or arg.video):
        raise ValueError("the options frames and video are for propagated labels, which the baseline does without.")
    chain = "camvid" if arg.start else "mapillary+cityscapes+camvid"
    shared = dict(net="fastscnn" if arg.debug else arg.net, data=arg.data, start=arg.start, batch=arg.batch)
    config = transfer.get_config(ablation.arguments(chain=chain, **shared))
    if arg.trainval:
        for dataset in (config.dataset, config.train.dataset, config.evaluate.dataset):
            dataset.update(train="train+validation", validation="")
    if arg.net == "wrn38":
        for name in config.stages:
            config[name].update({"remat": True} if config[name].kind == "train" else {})
    if arg.baseline:
        config.train.loss.main = dict(name="cross_entropy", on="heads", weight=1.0, options={})
    else:
        with_propagation(config, arg)
    config.evaluate_multi = config.evaluate.copy_and_resolve_references()
    config.evaluate_multi.protocol = "camvid_multi"
    config.stages = (*config.stages, "evaluate_multi")
    return transfer.debug(config, chain.split("+"), also=("evaluate_multi",)) if arg.debug else config


def with_propagation(config, arg):
    """Adds Cityscapes' video network, and CamVid's labels that are propagated with it."""
    shared = dict(propagate="reconstruction", k=arg.k)
    found = vplr.get_config(ablation.arguments(preset="camvid", frames=arg.frames, **shared))
    for dataset in (config.dataset, config.train.dataset, config.evaluate.dataset):
        options = found.dataset.options
        dataset.options.update(frames_dir=options.frames_dir, neighbours=options.neighbours)
    config.propagate = found.propagate
    config.propagate.update(split=config.train.dataset.train, checkpoint=arg.video or "train_video")
    config.train.extra = dict(found.train.extra.to_dict(), in_epoch=False)
    config.stages = ("propagate", *config.stages)
    if not arg.video:
        folder = f"{arg.data}/cityscapes" if arg.data else ""
        found = vplr.get_config(ablation.arguments(preset="cityscapes", data=folder, **shared))
        config.train_video = ConfigDict(dict(found.train_video.to_dict(), dataset=found.dataset.to_dict()))
        config.stages = ("train_video", *config.stages)


def sweep(add):
    """Adds the last two rows of table 4."""
    add("")
    add("baseline")
