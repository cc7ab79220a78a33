"""Every lowering of a convolution on the shapes of the networks here: output alone, and output with both gradients.

    python -m benchmarks.convolutions                       # all shapes, float32
    python -m benchmarks.convolutions --only grouped --runs 20
    python -m benchmarks.convolutions --dtype bfloat16      # on an accelerator: is "xla" the right choice there?

`segjax/ops/conv.py` chooses among them in `choose`; * marks its choice. Processor milliseconds on a CPU, where others
may be at work too; on an accelerator milliseconds of the clock. The lowerings take turns, and the median is shown; what
takes more than a second is run once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402

from segjax.ops.conv import LOWERINGS, choose  # noqa: E402
from segjax.ops.host_memory import reuse_freed_memory  # noqa: E402


class Shape(NamedTuple):
    """Of one convolution; where: a network that has it, on images of 256x512 or as given."""

    kind: str
    where: str
    size: tuple[int, int]
    channels: int
    features: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1


SHAPES = (
    Shape("stem", "ResNet conv1", (256, 512), 3, 64, kernel=7, stride=2),
    Shape("stem", "deep stem", (256, 512), 3, 64, stride=2),
    Shape("1x1", "ResNet-50 layer1", (64, 128), 64, 256, kernel=1),
    Shape("1x1", "ResNet-50 layer4", (32, 64), 2048, 512, kernel=1),
    Shape("1x1", "ResNet-50 layer2 shortcut", (64, 128), 256, 512, kernel=1, stride=2),
    Shape("3x3", "ResNet layer1", (64, 128), 64, 64),
    Shape("3x3", "ResNet layer2", (32, 64), 128, 128),
    Shape("3x3", "ResNet-18 layer4", (8, 16), 512, 512),
    Shape("dilated", "ResNet-50 layer4, stride 8", (32, 64), 512, 512, dilation=4),
    Shape("dilated", "ASPP of DeepLabV3+", (32, 64), 2048, 256, dilation=12),
    Shape("grouped", "ResNeXt-50 layer1", (64, 128), 128, 128, groups=32),
    Shape("grouped", "ResNeXt-50 layer2, first", (64, 128), 256, 256, stride=2, groups=32),
    Shape("grouped", "ResNeXt-50 layer3, stride 8", (32, 64), 512, 512, dilation=2, groups=32),
    Shape("grouped", "ResNeXt-50 layer4, stride 8", (32, 64), 1024, 1024, dilation=4, groups=32),
    Shape("depthwise", "MobileNetV2", (64, 128), 144, 144, stride=2, groups=144),
    Shape("depthwise", "Fast-SCNN bottleneck1", (32, 64), 384, 384, stride=2, groups=384),
    Shape("depthwise", "Fast-SCNN bottleneck3", (8, 16), 768, 768, groups=768),
    Shape("depthwise", "EfficientNet-Lite 5x5", (16, 32), 672, 672, kernel=5, groups=672),
    Shape("depthwise", "ASPP of mmsegmentation", (32, 64), 2048, 2048, dilation=12, groups=2048),
)


def fitting(shape: Shape, pads) -> list[str]:
    """Names of the lowerings that can compute it; "bundles" of one group is no other way."""
    channels, features, groups = shape.channels, shape.features, shape.groups
    fits = {
        "xla": True,
        "even_rows": False,  # of images that are split over devices; on one it is "xla" with a row more
        "depthwise": groups == channels == features,
        "bundles": groups > 1,
        "pointwise": groups == 1 and shape.kernel == 1 and pads == ((0, 0), (0, 0)),
        "windows": groups == 1 and channels <= 4 and shape.dilation == 1,
        "shifted": groups == 1 and channels > 4,
        "taps": groups == 1 and channels > 4,
    }
    return [name for name in LOWERINGS if fits[name]]


def measure(shape: Shape, batch: int, dtype: str, runs: int) -> tuple[str, dict[str, tuple[float, float]]]:
    """(name of the lowering `choose` takes here, milliseconds of (output, output and gradients) of each)."""
    pad = shape.dilation * (shape.kernel - 1) // 2
    stride, pads, dilation = (shape.stride,) * 2, ((pad, pad), (pad, pad)), (shape.dilation,) * 2
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, *shape.size, shape.channels), dtype)
    dims = (shape.kernel, shape.kernel, shape.channels // shape.groups, shape.features)
    kernel = jax.random.normal(keys[1], dims, dtype)
    chosen = choose(x.shape, kernel.shape, stride, pads, dilation, shape.groups, jax.default_backend())
    programs = {}
    for name in fitting(shape, pads):

        def output(x, kernel, lowering=LOWERINGS[name]):
            return lowering(x, kernel, stride, pads, dilation, shape.groups)

        def gradients(x, kernel, output=output):
            y, vjp = jax.vjp(output, x, kernel)
            return y, vjp(y)

        programs[name] = [jax.jit(output).lower(x, kernel).compile(), jax.jit(gradients).lower(x, kernel).compile()]
    times = {name: ([], []) for name in programs}
    for turn in range(runs + 1):
        for name, pair in programs.items():
            for program, taken in zip(pair, times[name]):
                if taken and taken[0] > 1000:
                    continue
                milliseconds = _timed(program, x, kernel)
                if turn or milliseconds > 1000:  # the first run warms up
                    taken.append(milliseconds)
    return chosen, {name: tuple(map(statistics.median, taken)) for name, taken in times.items()}


def _timed(program, *args) -> float:
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    start = clock()
    jax.block_until_ready(program(*args))
    return 1e3 * (clock() - start)


def table(batch: int, dtype: str, runs: int, only: str | None) -> str:
    """Markdown: a row for each shape, "output / with gradients" of each lowering; * marks the chosen one."""
    names = list(LOWERINGS)
    lines = [f"| convolution | input | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for shape in (shape for shape in SHAPES if only in (None, shape.kind)):
        chosen, found = measure(shape, batch, dtype, runs)
        what = f"{shape.kind} {shape.kernel}x{shape.kernel}"
        what += f" stride {shape.stride}" * (shape.stride > 1) + f" dilation {shape.dilation}" * (shape.dilation > 1)
        what += f", {shape.channels} -> {shape.features}" + f" in {shape.groups} groups" * (shape.groups > 1)
        cells = [f"{found[n][0]:.1f} / {found[n][1]:.1f}" + "*" * (n == chosen) if n in found else "" for n in names]
        lines.append(f"| {what}: {shape.where} | {batch} x {shape.size[0]} x {shape.size[1]} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
        jax.clear_caches()
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=7, help="the median of so many is shown")
    parser.add_argument("--only", choices=sorted({shape.kind for shape in SHAPES}))
    args = parser.parse_args()
    reuse_freed_memory()
    print(table(args.batch, args.dtype, args.runs, args.only))


if __name__ == "__main__":
    main()
