"""Images per second of training and inference beside PyTorch: eager, and compiled by torch.compile, in turns.

Both have channels last, and bfloat16 with float32 parameters (autocast there). Peers: torchvision's FCN and DeepLabV3,
and Fast-SCNN and DeepLabV3+ of benchmarks/torch_*.py. PyTorch prepares itself in a process of its own while this one
compiles; then each runs once per turn.
"""

from __future__ import annotations

from benchmarks import clock, models
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, rates, ratios, walls
from benchmarks.accelerator.limits import peak_flops
from benchmarks.train_step import make_step

CLASSES = 19
MODES = ("eager", "compiled")


def measure(part: str, context: Context) -> Figures:
    """part: "NETWORK training" or "NETWORK inference".

    Figures: images per second of ours and of each mode of PyTorch; MFU of ours; how many times as fast ours is as each
    mode, over the turns. Without a python that has torch, ours alone.
    """
    name, what = part.split()
    sizes, dtype = context.sizes, context.dtype
    batch = sizes.batch if what == "training" else sizes.inference_batch
    options = dict(dtype=dtype)
    peer = None
    if context.torch_python:
        how = dict(size=sizes.image, batch=batch, classes=CLASSES, dtype=dtype, modes=MODES)
        peer = models.Peer(context.torch_python, name, what, **how)
    try:
        make = make_step if what == "training" else models.make_inference
        timed, compile_s = make(name, sizes.image, batch, CLASSES, options)
        ready = peer.wait() if peer else ()
        runs = {"segjax": timed} | {mode: lambda mode=mode: peer.step(mode) for mode in ready}
        times = {run: walls(taken) for run, taken in clock.take_turns(runs, sizes.repeats, warm=3).items()}
    finally:
        if peer:
            peer.close()
    peak, whose = peak_flops(dtype)
    inference, training = models.multiply_adds(name, sizes.image, CLASSES, options)
    operations = 2 * batch * (3 * training if what == "training" else inference)
    figures = {"segjax, images/s": rates(times["segjax"], batch)}
    figures |= {"MFU, %": rates(times["segjax"], 100 * operations / peak), "peak": whose}
    for mode in ready:
        figures[f"PyTorch {mode}, images/s"] = rates(times[mode], batch)
        figures[f"times as fast as {mode}"] = ratios(times[mode], times["segjax"])
    missing = peer.answer if peer else "there is no python with torch; --torch-python names one"
    return figures | {"compile, s": round(compile_s, 1)} | ({"PyTorch lacks": missing} if missing else {})
