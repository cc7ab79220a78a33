"""Seconds of one training step: forward, cross entropy of every head, backward, SGD with momentum.

    python benchmarks/train_step.py --model fastscnn --size 352x480 --batch 4 --classes 11
    python benchmarks/train_step.py --torch-python ~/torch/bin/python     # Fast-SCNN against PyTorch, step by step

With --torch-python the two programs take turns, one step each, and the ratios are printed: on a machine that others
use as well, only ratios mean something, best that of processor time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import clock  # noqa: E402
from segjax.ops.host_memory import reuse_freed_memory  # noqa: E402


def make_step(model: str, size: tuple[int, int], batch: int, classes: int, options: dict):
    import jax
    import jax.numpy as jnp
    import optax

    from segjax import models
    from segjax.losses import cross_entropy
    from segjax.ops import resize

    module = models.create(model, classes, **options)
    optimizer = optax.sgd(1e-3, momentum=0.9)
    key = jax.random.key(0)
    images = jax.random.normal(key, (batch, *size, 3))
    labels = jax.random.randint(key, (batch, *size), 0, classes)
    variables = jax.jit(module.init)(key, images)
    state = (variables["params"], variables.get("batch_stats", {}), optimizer.init(variables["params"]), key)

    def loss_fn(params, stats, images, labels, key):
        output, new = module.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        maps = {"logits": output.logits, **{name: head for name, head in output.aux.items() if head.ndim == 4}}
        loss = sum(
            module.loss_weights[name] * cross_entropy(resize(y, size), labels).mean() for name, y in maps.items()
        )
        return loss, new.get("batch_stats", {})

    def step(state, images, labels):
        params, stats, opt_state, key = state
        key, use = jax.random.split(key)
        (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, stats, images, labels, use)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (jax.tree.map(jnp.add, params, updates), stats, opt_state, key), loss

    start = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()
    compile_s = time.perf_counter() - start

    def run():
        nonlocal state
        state, loss = compiled(state, images, labels)
        return state, loss

    return clock.stopwatch(run), compile_s


def summary(prefix: str, times: list[tuple[float, float]]) -> dict:
    """Wall seconds (median, smallest), and processor seconds of all threads, which others disturb less."""
    wall, cpu = zip(*times)
    values = dict(median_s=statistics.median(wall), min_s=min(wall), cpu_s=statistics.median(cpu))
    return {prefix + key: round(value, 4) for key, value in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fastscnn")
    parser.add_argument("--size", default="352x480", help="height x width of the crop")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--torch-python", help="python that has torch: time benchmarks/torch_fastscnn.py in turns")
    parser.add_argument("--keep-malloc", action="store_true", help="leave malloc as it is")
    args = parser.parse_args()
    if not args.keep_malloc:
        reuse_freed_memory()
    size = tuple(map(int, args.size.split("x")))
    timed, compile_s = make_step(args.model, size, args.batch, args.classes, dict(dtype=args.dtype, remat=args.remat))
    for _ in range(2):
        timed()
    peer = None
    if args.torch_python:
        command = [args.torch_python, str(Path(__file__).parent / "torch_fastscnn.py"), "--serve", "--size", args.size]
        command += ["--batch", str(args.batch), "--classes", str(args.classes)]
        command += ["--threads", str(len(os.sched_getaffinity(0)))]
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert peer.stdout.readline().strip() == "ready"
    ours, theirs = [], []
    for _ in range(args.steps):
        ours.append(timed())
        if peer:
            peer.stdin.write("step\n")
            peer.stdin.flush()
            theirs.append(tuple(map(float, peer.stdout.readline().split())))
    report = dict(model=args.model, size=args.size, batch=args.batch, cpus=len(os.sched_getaffinity(0)))
    report |= dict(compile_s=round(compile_s, 1)) | summary("", ours)
    if peer:
        peer.communicate("quit\n")
        report |= summary("torch_", theirs)
        for key in ("median_s", "min_s", "cpu_s"):
            report[f"ratio_{key}"] = round(report[key] / report[f"torch_{key}"], 3)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
