"""Labels beside the split's own in vplr.py: propagated ones with their stages, and places in coarse ones."""

from configs import common

RARE = ("truck", "bus", "train", "wall", "rider", "motorcycle", "fence")  # boosted by the published scripts


def with_propagation(config, method, k, arg):
    """Adds the labels of t at t - k and t + k, on images propagated with them (joint propagation, JP)."""
    small = config.dataset.name == "synthetic_street"
    config.stages = ("propagate", "train", "evaluate")
    split, held_out, step = frames_of(config, k, arg)
    if method != "flow":
        config.stages = ("train_video", *config.stages)
        video = common.train_video_small() if small else common.train_video((256, 256), epochs=400, batch=128)
        video["model"]["name"] = "sdcnet2d_recon" if method == "reconstruction" else "sdcnet2d"
        video.update(split=split, eval_split=held_out, frame_step=step)
        config.train_video = video
    checkpoint = "" if method == "flow" else "train_video"
    if arg.finetune:
        checkpoint = "finetune_video"
        config.finetune_video = common.finetune_video(config.train_video)
        config.stages = ("train_video", checkpoint, *config.stages[1:])
    config.propagate = dict(kind="propagate", split=split, method=method, checkpoint=checkpoint, flow="", steps=k)
    config.propagate.update(modes=("jp",), rgb_warp="composed", max_cycle_error=0.0, max_image_error=0.0)
    config.propagate.frame_step = step
    if arg.submission:
        config.propagate.split = "cv2_of_train"  # the release propagates labels of the folder train only
    config.train.extra = dict(stage="propagate", mode="jp", steps=(k,))
    if small:  # the same number of steps as without; the paper keeps the epochs, which are three times as long
        for unit in ("total", "checkpoint", "eval"):
            config.train[f"{unit}_epochs"] = max(config.train[f"{unit}_epochs"] // 3, 1)


def with_coarse_labels(config):
    """Adds places of rare classes in the coarsely labelled images (VPLR, section 4.1), which make no epoch longer."""
    config.dataset.options.parts = (*config.dataset.options.get("parts", ("fine",)), "coarse")
    extra = dict(coarse=dict(split="train_extra", in_epoch=False, classes=RARE))
    if "extra" in config.train:
        extra["propagated"] = config.train.extra
    config.train.extra = extra
    config.train.sampler.cut_epoch = 150


def frames_of(config, k, arg):
    """Returns (training split with neighbouring frames, validation split, step of frame numbers or 0 to find it)."""
    dataset = config.dataset
    if dataset.name == "cityscapes":
        dataset.options.update(parts=("fine", "sequence"), neighbours=max(k, 3))
        return "train", "validation", 1
    if dataset.name == "camvid":  # the small tree has one still per second; the videos have the original size
        dataset.options.update(config="full", source_dir=arg.data, frames_dir=arg.frames, neighbours=max(k, 3))
        config.train.crop.size = tuple(2 * side for side in config.train.crop.size)
        config.evaluate.window = tuple(2 * side for side in config.evaluate.window)
        return "train", "validation", 1
    if dataset.name == "kitti":
        dataset.options.update(frames_dir=arg.frames, neighbours=max(k, 3))
        return "train", "validation", 1
    if dataset.name == "segmentation_folder":
        raise ValueError("propagate=METHOD needs a data set of videos; for your own ones there is `segjax propagate`.")
    return "train", "validation", 0
