"""What different ways to compute one operation cost on a TPU, by the TPU's own compiler; no TPU is needed.

    python -m benchmarks.tpu_lowerings                      # all operations, minutes of a core
    python -m benchmarks.tpu_lowerings --only grouped stem
    python -m benchmarks.tpu_lowerings --slice v5p:2x2x1

For each: FLOPs, bytes between chip and memory (segjax/costs/traffic.py), temporary memory, seconds of compilation, and
the microseconds that FLOPs and bytes take at the chip's published rates; the larger is a lower bound of the time.
Output alone, and output with all gradients. `*` marks what segjax computes on a TPU. docs/speed.md has the table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from segjax.costs import tpu  # noqa: E402
from segjax.costs.slices import find_slice  # noqa: E402
from segjax.costs.traffic import memory_traffic  # noqa: E402
from segjax.errors import UserError  # noqa: E402
from segjax.metrics.confusion import histogram_counts, one_hot_counts  # noqa: E402
from segjax.ops import bilinear_warp, conv, for_platform, resize  # noqa: E402
from segjax.ops.resize_argmax import _by_products, _by_taps  # noqa: E402


class Case(NamedTuple):
    """One way to compute an operation; arguments: shapes. chosen: whether segjax computes it so on a TPU."""

    operation: str
    way: str
    function: Callable[..., Any]
    arguments: tuple[jax.ShapeDtypeStruct, ...]
    chosen: bool
    gradient: bool = True


def shape(*sizes: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def convolutions(
    name: str, size: tuple[int, int], channels: int, features: int, ways: dict[str, str], *,
    batch: int = 4, kernel: int = 3, stride: int = 1, groups: int = 1,
) -> Iterator[Case]:  # fmt: skip
    """ways: name in the table -> lowering of `conv.LOWERINGS`."""
    x, weights = shape(batch, *size, channels), shape(kernel, kernel, channels // groups, features)
    pads = ((kernel // 2, kernel // 2),) * 2
    picked = conv.choose(x.shape, weights.shape, (stride, stride), pads, (1, 1), groups, "tpu")
    for way, lowering in ways.items():
        run = partial(convolution, conv.LOWERINGS[lowering], (stride, stride), pads, groups)
        yield Case(name, way, run, (x, weights), lowering == picked)


def convolution(lowering, stride, pads, groups, x, kernel):
    return lowering(x, kernel, stride, pads, (1, 1), groups)


def grouped() -> Iterator[Case]:
    for size, channels in (((100, 100), 128), ((100, 100), 256), ((50, 50), 512), ((50, 50), 1024)):
        ways = {"XLA": "xla", "dense bundles of 128": "bundles"}
        yield from convolutions(f"3x3 in 32 groups, {channels}", size, channels, channels, ways, groups=32)


def depthwise() -> Iterator[Case]:
    ways = {"XLA": "xla", "shifted multiply-adds": "depthwise"}
    yield from convolutions("depthwise 3x3, 384", (64, 128), 384, 384, ways, groups=384)
    yield from convolutions("depthwise 3x3 stride 2, 48", (128, 256), 48, 48, ways, groups=48, stride=2)


def stem() -> Iterator[Case]:
    ways = {"XLA": "xla", "windows, one product": "windows"}
    yield from convolutions("3x3 stride 2, 3 to 32", (512, 1024), 3, 32, ways, stride=2)


PRODUCTS = {"matrix products, channels first": "tpu", "matrix products, channels last": "gpu"}


def enlarging() -> Iterator[Case]:
    logits, size = shape(2, 128, 256, 19, dtype=jnp.float32), (1024, 2048)

    ways = {**PRODUCTS, "gathers": "cpu"}

    def resized(platform, x):
        return for_platform(partial(resize, size=size), platform)(x)

    def loss(platform, x):
        chances = jax.nn.log_softmax(resized(platform, x))
        return -jnp.mean(jnp.sum(chances * jax.nn.one_hot(jnp.zeros(size, jnp.int32), 19), -1))

    for name, function in (("resize of logits by 8", resized), ("the same and cross entropy", loss)):
        for way, platform in ways.items():
            yield Case(name, way, partial(function, platform), (logits,), platform == "tpu")

    def enlarged(x):
        return jnp.argmax(resize(x, size), axis=-1).astype(jnp.uint8)

    for way, function, chosen in (
        ("products, by blocks", partial(_by_products, size=size, align_corners=False), True),
        ("gathers, by blocks", partial(_by_taps, size=size, align_corners=False), False),
        ("resize, then argmax", enlarged, False),
    ):
        yield Case("class ids of logits by 8", way, function, (logits,), chosen, gradient=False)


def between() -> Iterator[Case]:
    """A resize that no loss follows, but a convolution, as in the ladder of a decoder."""

    def convolved(x, kernel):
        return jax.nn.relu(convolution(conv.LOWERINGS["xla"], (1, 1), ((1, 1),) * 2, 1, x, kernel))

    def enlarged(platform, x, first, second):
        x = convolved(x, first)
        size = tuple(4 * n for n in x.shape[1:3])
        return convolved(for_platform(partial(resize, size=size), platform)(x), second)

    for channels, size in ((16, (96, 192)), (48, (96, 192)), (128, (48, 96)), (256, (48, 96))):
        arguments = shape(8, *size, channels), *(shape(3, 3, channels, channels),) * 2
        for way, platform in PRODUCTS.items():
            name = f"3x3, enlarged by 4, 3x3; {channels} channels"
            yield Case(name, way, partial(enlarged, platform), arguments, platform == "tpu")


def counting() -> Iterator[Case]:
    ids = shape(2, 1024, 2048, dtype=jnp.int32)
    for way, function, chosen in (("one-hot products", one_hot_counts, True), ("scatter", histogram_counts, False)):
        yield Case("confusion matrix", way, partial(function, num_classes=19), (ids, ids), chosen, gradient=False)


def warping() -> Iterator[Case]:
    image, flow = shape(2, 256, 512, 3, dtype=jnp.float32), shape(2, 256, 512, 2, dtype=jnp.float32)
    yield Case("warp", "gathers", bilinear_warp, (image, flow), True)


OPERATIONS = {case.__name__: case for case in (grouped, depthwise, stem, enlarging, between, counting, warping)}


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments):
        result, backward = jax.vjp(function, *arguments)
        return result, backward(result)

    return both


def row(case: Case, device: Any, figures: Any) -> str:
    """Returns the row of a case in the table; figures: of the chip."""
    place = jax.sharding.SingleDeviceSharding(device)
    arguments = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place) for x in case.arguments]
    cells = [case.operation, f"{case.way}{' *' if case.chosen else ''}"]
    for function in (case.function, with_gradients(case.function))[: 2 if case.gradient else 1]:
        begin = time.perf_counter()
        compiled = jax.jit(for_platform(function, "tpu")).lower(*arguments).compile()
        seconds = time.perf_counter() - begin
        flops, moved = (compiled.cost_analysis() or {}).get("flops", 0.0), memory_traffic(compiled.as_text())
        cells += [f"{flops / 1e9:.1f}", f"{moved / 2**20:.0f}"]
        cells += [f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:.0f}"]
        cells += [f"{1e6 * flops / figures.flops:.0f} / {1e6 * moved / figures.bandwidth:.0f}", f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def measure(slice_name: str, only: list[str]) -> None:
    """Prints the table, in a process whose environment is that of `tpu.environment`."""
    from jax.experimental import topologies

    found = find_slice(slice_name)
    device = topologies.get_topology_desc(found.name, platform="tpu", **found.options).devices[0]
    half = ["Gflop", "MiB moved", "MiB temporary", "us by flop / by memory", "s to compile"]
    names = ["operation", "way", *half, *(f"{name}, with gradients" for name in half)]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for name in only or OPERATIONS:
        for case in OPERATIONS[name]():
            print(row(case, device, found.figures), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(OPERATIONS), default=[])
    parser.add_argument("--slice", default=tpu.TOPOLOGY, help="of which one chip is compiled for")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # set by the line below
    args = parser.parse_args()
    if args.here:
        measure(args.slice, args.only)
        return 0
    try:
        found = find_slice(args.slice)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if reason := tpu.missing():
        print(reason, file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "benchmarks.tpu_lowerings", "--here", *sys.argv[1:]]
    return subprocess.run(command, env=tpu.environment(found.accelerator_type)).returncode


if __name__ == "__main__":
    sys.exit(main())
