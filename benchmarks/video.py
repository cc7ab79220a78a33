"""Times of labelling a video from keyframes, beside its keyframe network on every frame, in turns: frame in, ids out.

    python -m benchmarks.video --size=1024x2048 --scale=0.75 --interval=4
    python -m benchmarks.video --checkpoint=runs/gsvnet --size=360x480

A round labels one interval of random frames: a keyframe and the frames between it and the next, each until its ids are
in the memory of the host; and as many frames by the keyframe network alone, at the same scale, as `segjax predict
--scales` does. Prints medians over the rounds of wall and of processor milliseconds (all threads; others on the machine
disturb these less), and how many times faster a mean frame is than a keyframe and than `predict`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import clock  # noqa: E402
from benchmarks.labelling import random_network  # noqa: E402
from segjax import models  # noqa: E402
from segjax.evaluation.video_systems import keyframe_of  # noqa: E402
from segjax.inference.network import Network, open_network  # noqa: E402
from segjax.inference.streaming import StreamSegmenter  # noqa: E402
from segjax.models.video_segmenter import example_frames  # noqa: E402

NETWORKS = ["swiftnet_r18", "swiftnet_efficientnet_lite0", "fastscnn", "deeplabv3plus_r18"]
HEADER = "| keyframe network | keyframe | frame between | mean frame | `predict` | keyframe / mean | `predict` / mean |"


def with_random_propagation(image: Network, name: str, scale: float) -> Network:
    """Returns a network that labels video from keyframes, with random weights."""
    spec = {"name": name, "num_classes": image.spec["num_classes"], "options": {"dtype": "float32"}}
    spec["keyframe"] = {"spec": image.spec, "scale": scale}
    module = models.from_spec(spec)
    variables = jax.jit(module.init)(jax.random.key(0), *example_frames(module))
    return Network(spec, module, variables, image.normalisation, image.label_map, 0, {})


def measure(network: Network, size: tuple[int, int], interval: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Returns the (wall, processor) milliseconds of a "key", a frame "between", a "mean" frame, and "predict"."""
    kinds = times(network, size, interval, rounds)
    found = {kind: tuple(map(statistics.median, zip(*taken))) for kind, taken in kinds.items()}
    between = found["between"]
    found["mean"] = tuple((key + (interval - 1) * step) / interval for key, step in zip(found["key"], between))
    return found


def times(network: Network, size: tuple[int, int], interval: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Returns the (wall, processor) milliseconds of every "key", every frame "between", and every "predict"."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(interval)]
    stream = StreamSegmenter(network, interval)
    predict = keyframe_of(network).predictor(scales=(network.module.scale,))
    kinds: dict[str, list[tuple[float, float]]] = {"key": [], "between": [], "predict": []}
    for number in range(rounds + 1):
        stream.reset()
        taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for place, frame in enumerate(frames):
            taken["between" if place else "key"].append(timed(lambda frame=frame: stream(frame)))
        for frame in frames:
            taken["predict"].append(timed(lambda frame=frame: np.asarray(predict(frame[None]))))
        if number:  # the first round compiles and warms up
            for kind, found in taken.items():
                kinds[kind] += found
    return kinds


def timed(label: Callable[[], object]) -> tuple[float, float]:
    """Returns (wall, processor) milliseconds of a call."""
    wall, cpu = clock.stopwatch(label)()
    return 1e3 * wall, 1e3 * cpu


def row(name: str, found: dict[str, tuple[float, float]]) -> str:
    """Returns the row of a table; each cell has wall and processor milliseconds, or both ratios."""
    cells = [f"{found[kind][0]:.1f}, {found[kind][1]:.1f}" for kind in ("key", "between", "mean", "predict")]
    for kind in ("key", "predict"):
        wall, cpu = (one / mean for one, mean in zip(found[kind], found["mean"]))
        cells.append(f"{wall:.2f}, {cpu:.2f}")
    return f"| {' | '.join([name, *cells])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x2048", help="HEIGHTxWIDTH of the frames")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="of keyframes")
    parser.add_argument("--propagation", default="gsvnet")
    parser.add_argument("--checkpoint", default="", help="trained networks, instead of random ones")
    parser.add_argument("--scale", type=float, default=0.75, help="of keyframes")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--interval", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.interval < 2:
        parser.error("--interval must be 2 or more: there are frames between keyframes")
    size = tuple(map(int, arguments.size.split("x")))
    print("milliseconds: wall, processors", HEADER, "|---" * 7 + "|", sep="\n", flush=True)
    for name in [""] if arguments.checkpoint else arguments.networks:
        if arguments.checkpoint:
            network = open_network(arguments.checkpoint, kind="propagation")
        else:
            image = random_network(name, arguments.classes)
            network = with_random_propagation(image, arguments.propagation, arguments.scale)
        shown = network.spec["keyframe"]["spec"]["name"]
        print(row(shown, measure(network, size, arguments.interval, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
