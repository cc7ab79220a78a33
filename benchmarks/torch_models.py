"""PyTorch's side of benchmarks/models.py: runs one pass per line read from stdin. Started by a python that has torch.

Fast-SCNN is benchmarks/torch_fastscnn.py, DeepLabV3+ benchmarks/torch_deeplabv3plus.py; the others are torchvision's.
Channels are last. Modes: "eager", and "compiled" by torch.compile; a line names the mode of one pass. With bfloat16 the
network runs under autocast; float32 products may round to TF32 on an accelerator, as they may in jax.
"""

import argparse
import sys
import time

import torch
import torch.nn.functional as F
from torch_deeplabv3plus import DeepLabV3Plus
from torch_fastscnn import FastSCNN

# our name -> name in torchvision.models.segmentation
TORCHVISION = {
    "deeplabv3_r50": "deeplabv3_resnet50",
    "deeplabv3_r101": "deeplabv3_resnet101",
    "fcn_r50": "fcn_resnet50",
    "fcn_r101": "fcn_resnet101",
}


def build(name: str, classes: int) -> torch.nn.Module:
    """The network, or SystemExit with the reason why there is none, told on stdout."""
    if name == "fastscnn":
        return FastSCNN(classes)
    if name not in TORCHVISION and name != "deeplabv3plus_r50":
        refuse(f"no peer of {name} in PyTorch here")
    try:
        from torchvision.models import segmentation
    except ImportError:
        refuse(f"{name} needs torchvision, which this python does not have")
    if name == "deeplabv3plus_r50":
        return DeepLabV3Plus(classes)
    build = getattr(segmentation, TORCHVISION[name])
    return build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=True)


def refuse(sentence: str):
    print(sentence, flush=True)
    sys.exit(0)


def heads(output) -> list[tuple[float, torch.Tensor]]:
    """(weight, logits) of each head; torchvision returns a dict, trained with 0.5 for its auxiliary head."""
    if isinstance(output, dict):
        return [(1.0, output["out"]), (0.5, output["aux"])]
    return [(1.0, output)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--what", choices=["inference", "training"], required=True)
    parser.add_argument("--size", default="128x256")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager"])
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # the fastest convolutions, as XLA chooses them too
    torch.set_float32_matmul_precision("high")
    h, w = map(int, args.size.split("x"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, args.dtype)
    torch.manual_seed(0)
    model = build(args.model, args.classes).to(device, memory_format=torch.channels_last)
    model.train(args.what == "training")
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, fused=device == "cuda")
    images = torch.randn(args.batch, 3, h, w, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, args.classes, (args.batch, h, w), device=device)

    def classes_of(images):
        with torch.no_grad(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
            return heads(model(images))[0][1].argmax(1)

    def loss_of(images, labels):
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            output = heads(model(images))
        return sum(weight * F.cross_entropy(logits.float(), labels) for weight, logits in output)

    programs = {"eager": (classes_of, loss_of), "compiled": (torch.compile(classes_of), torch.compile(loss_of))}

    def run(mode):
        infer, loss = programs[mode]
        if args.what == "inference":
            infer(images)
            return
        optimizer.zero_grad(set_to_none=True)
        loss(images, labels).backward()
        optimizer.step()

    def timed(mode):
        start, cpu = time.perf_counter(), time.process_time()
        run(mode)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - cpu

    ready, failures = [], []
    for mode in args.modes:
        try:
            for _ in range(3):
                timed(mode)
            ready.append(mode)
        except Exception as error:  # no compiler on this machine, too little memory, a bug of theirs
            failures.append(f"{mode}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    if not ready:
        refuse("; ".join(failures))
    print(" ".join(["ready", *ready]) + ";" + "; ".join(failures), flush=True)
    for line in sys.stdin:  # ends with the process that asks, however that ends
        print(*timed(line.strip()), flush=True)


if __name__ == "__main__":
    main()
