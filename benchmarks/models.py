"""Inference and training step of the networks by name: milliseconds, and the share of the device's peak (MFU).

    python -m benchmarks.models --models fastscnn swiftnet_r18 --size 128x256 --batch 2
    python -m benchmarks.models --size 1024x1024 --batch 8 --dtype bfloat16          # all, on an accelerator
    python -m benchmarks.models --models fastscnn --torch-python ~/torch/bin/python  # beside PyTorch, step by step

MFU: operations of the convolutions (2 per multiply-add, 3 times as many for a training step, whatever remat adds)
per second, over --peak-tflops, or, without it, over what a large matrix product of that type reaches here and then.
With --torch-python, networks that benchmarks/torch_models.py knows are timed in turns with PyTorch. The rows of --json
hold processor seconds too: on a CPU that others use as well only they can be compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import clock  # noqa: E402
from benchmarks.train_step import make_step  # noqa: E402
from segjax.commands import values  # noqa: E402
from segjax.ops.host_memory import reuse_freed_memory  # noqa: E402


def make_inference(
    model: str, size: tuple[int, int], batch: int, classes: int, options: dict
) -> tuple[clock.Timed, float]:
    """(timed run of images -> class ids, seconds to compile)."""
    import jax
    import jax.numpy as jnp

    from segjax import models

    module = models.create(model, classes, **options)
    images = jax.random.normal(jax.random.key(0), (batch, *size, 3))
    variables = jax.jit(module.init)(jax.random.key(0), images)
    run = jax.jit(lambda v, x: jnp.argmax(module.apply(v, x, train=False).logits, -1))
    start = time.perf_counter()
    compiled = run.lower(variables, images).compile()
    compile_s = time.perf_counter() - start
    return clock.stopwatch(lambda: compiled(variables, images)), compile_s


def multiply_adds(model: str, size: tuple[int, int], classes: int, options: dict) -> tuple[float, float]:
    """Of one image in inference, and with the auxiliary heads that training has."""
    import jax
    import jax.numpy as jnp

    from segjax import models
    from segjax.costs.modules import module_costs
    from segjax.costs.networks import abstract_variables, forward, model_costs

    inference = model_costs(model, size, num_classes=classes, **options)
    module, images = models.create(model, classes, **options), jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    training = module_costs(forward(module), abstract_variables(module, images), images)
    return tuple(sum(cost.multiply_adds for cost in costs.values()) for costs in (inference, training))


def measured_peak(dtype: str) -> float:
    """Operations per second of a large matrix product, the fastest of 10."""
    import jax
    import jax.numpy as jnp

    n = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(x, x))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        jax.block_until_ready(product(x, x))
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


class Peer:
    """The same network in PyTorch, in a process of its own, which runs when asked.

    modes: ways to run it, see benchmarks/torch_models.py.

    answer: after `wait`, the modes that are ready, and why others are not.
    """

    def __init__(
        self, python: str, model: str, what: str, *, size: tuple[int, int], batch: int, classes: int, dtype: str,
        modes: tuple[str, ...] = ("eager",),
    ):  # fmt: skip
        command = [python, str(Path(__file__).parent / "torch_models.py"), "--model", model, "--what", what]
        command += ["--size", "{}x{}".format(*size), "--batch", str(batch), "--classes", str(classes)]
        command += ["--dtype", dtype, "--threads", str(len(os.sched_getaffinity(0))), "--modes", *modes]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer, self.ready = "", ()

    def wait(self) -> tuple[str, ...]:
        """Returns the modes that are ready, after the network has been built and warmed up."""
        self.answer = self.process.stdout.readline().strip()
        if self.answer.startswith("ready "):
            ready, _, self.answer = self.answer.partition(";")
            self.ready = tuple(ready.split()[1:])
        return self.ready

    def step(self, mode: str = "eager") -> clock.Times:
        """Returns the times of one run."""
        self.process.stdin.write(f"{mode}\n")
        self.process.stdin.flush()
        return tuple(map(float, self.process.stdout.readline().split()))

    def close(self) -> None:
        """Ends the process, which reads until its input is closed."""
        self.process.communicate()


def measure(name: str, args: argparse.Namespace) -> dict:
    """One row of the table."""
    import jax

    size = tuple(map(int, args.size.split("x")))
    options = dict(dtype=args.dtype, remat=args.remat, **dict(args.option))
    shown = ", ".join([name, *(f"{key}={value}" for key, value in args.option)])
    row = dict(model=shown, size=args.size, batch=args.batch, dtype=args.dtype)
    works = dict(zip(("inference", "training"), multiply_adds(name, size, args.classes, options)))
    row["gmac"] = round(works["inference"] / 1e9, 3)
    # measured again for every network: what a shared machine reaches changes by a factor of two within an hour
    row["peak"] = peak = 1e12 * args.peak_tflops if args.peak_tflops else measured_peak(args.dtype)
    for what, make, passes in (("inference", make_inference, 1), ("training", make_step, 3)):
        if what not in args.what:
            continue
        how = dict(size=size, batch=args.batch, classes=args.classes, dtype=args.dtype)
        peer = Peer(args.torch_python, name, what, **how) if args.torch_python else None
        ready = peer and peer.wait()
        timed, row[f"{what}_compile_s"] = make(name, size, args.batch, args.classes, options)
        times = clock.take_turns({"ours": timed, **({"theirs": peer.step} if ready else {})}, args.runs, warm=2)
        (seconds, cpu), *theirs = (tuple(map(statistics.median, zip(*taken))) for taken in times.values())
        row[f"{what}_s"], row[f"{what}_cpu_s"] = seconds, cpu
        row[f"{what}_mfu"] = 2 * passes * works[what] * args.batch / seconds / peak
        if theirs:
            row[f"{what}_torch_s"], row[f"{what}_torch_cpu_s"] = theirs[0]
            row[f"{what}_ratio"] = seconds / theirs[0][0]
        elif peer:
            row["torch"] = peer.answer
        if peer:
            peer.close()
        del timed
        jax.clear_caches()
        gc.collect()
    return row


def show(rows: list[dict], markdown: bool) -> None:
    from rich.table import Table

    from segjax.visualize import print_table

    columns = ["G mult.-adds"]
    kinds = [what for what in ("inference", "training") if f"{what}_s" in rows[0]]
    for what in kinds:
        columns += [f"{what}, ms", "MFU, %", "compile, s"]
        columns += ["PyTorch, ms", "ours / theirs"] if any(f"{what}_torch_s" in row for row in rows) else []
    lines = []
    for row in rows:
        cells = [f"{row['gmac']:.2f}"]
        for what in kinds:
            cells += [f"{1e3 * row[f'{what}_s']:.1f}", f"{100 * row[f'{what}_mfu']:.1f}"]
            cells += [f"{row[f'{what}_compile_s']:.1f}"]
            if any(f"{what}_torch_s" in other for other in rows):
                known = f"{what}_torch_s" in row
                cells += [f"{1e3 * row[f'{what}_torch_s']:.1f}", f"{row[f'{what}_ratio']:.2f}"] if known else ["", ""]
        lines.append([row["model"], *cells])
    if markdown:
        for line in (["network", *columns], ["---"] * (1 + len(columns)), *lines):
            print(f"| {' | '.join(line)} |")
        return
    table = Table()
    for column in ["network", *columns]:
        table.add_column(column, justify="left" if column == "network" else "right")
    for line in lines:
        table.add_row(*line)
    print_table(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--what", nargs="+", choices=["inference", "training"], default=["inference", "training"])
    parser.add_argument("--size", default="128x256", help="height x width of the images")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--runs", type=int, default=10, help="the median of so many is shown")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--option", type=values.option, nargs="+", default=[], metavar="NAME=VALUE", help="of networks")
    parser.add_argument("--peak-tflops", type=float, help="of the device for that type; default: of a matrix product")
    parser.add_argument("--torch-python", help="python that has torch: time PyTorch's networks in turns")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/speed.md has it")
    parser.add_argument("--json", help="append the rows to this file, one JSON object a line")
    args = parser.parse_args()
    reuse_freed_memory()

    from segjax import models

    rows = []
    for name in args.models or models.names():
        rows.append(measure(name, args))
        if args.json:
            with open(args.json, "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
        print(f"{name}: peak {rows[-1]['peak'] / 1e12:.3g} Tflop/s in {args.dtype}", flush=True)
    show(rows, args.markdown)
    for row in rows:
        if "torch" in row:
            print(f"{row['model']}: {row['torch']}")


if __name__ == "__main__":
    main()
