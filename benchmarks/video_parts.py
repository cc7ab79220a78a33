"""Where the time of a frame between keyframes goes (Lee et al., GSVNet, Fig. A9), beside a keyframe.

    python -m benchmarks.video_parts --size=1024x2048 --keyframe=swiftnet_r18 --scale=0.75

One program ends after each part, and XLA leaves out what it does not need. All programs run in turns on random frames;
a part is the difference of the medians of two programs, in milliseconds of wall and of processor time (all threads).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.labelling import random_network  # noqa: E402
from benchmarks.video import timed, with_random_propagation  # noqa: E402
from segjax import augment  # noqa: E402
from segjax.inference.network import Network  # noqa: E402
from segjax.inference.streaming import StreamSegmenter  # noqa: E402
from segjax.ops import resize, resize_argmax  # noqa: E402

PARTS = {
    "read": "frame, resized to the grid",
    "flow": "optical flow",
    "warp": "warp of the logits",
    "features": "features of the frame",
    "fusion": "guided filter",
    "enlarge": "class ids at full size",
}


def up_to(network: Network, part: str, variables: Any, frame: Any, state: Any, before: Any) -> Any:
    """Returns what a step has computed after a part.

    frame: uint8 (h, w, 3). state: logits (1, h', w', k) of the frame before. before: that frame on the grid.
    """
    module, (mean, std) = network.module, augment.normalisation(network.normalisation)
    read = augment.normalise(resize(frame[None], state.shape[1:3], align_corners=True), mean=mean, std=std)
    if part == "read":
        return read
    new, kept = module.apply(variables, state, read, before, method="step", mutable=["intermediates"])
    found = kept["intermediates"]["propagation"]
    if part == "flow":
        return found["flow"]
    if part == "warp":
        return found["warped"]
    if part == "features":
        return found["warped"], found["grm"]["intra"]
    return new if part == "fusion" else resize_argmax(new, frame.shape[:2], align_corners=True)


def measure(network: Network, size: tuple[int, int], rounds: int) -> dict[str, tuple[float, float]]:
    """Returns the median (wall, processor) milliseconds up to each of PARTS, and those of a keyframe as "key"."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*size, 3), np.uint8)
    grid = network.module.grid(size)
    state = jax.device_put(rng.normal(size=(1, *grid, network.spec["num_classes"])).astype(np.float32))
    before = jax.device_put(rng.normal(size=(1, *grid, 3)).astype(np.float32))
    programs = {part: jax.jit(partial(up_to, network, part)) for part in PARTS}
    stream = StreamSegmenter(network, 1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*PARTS, "key")}
    for number in range(rounds + 1):
        for part, program in programs.items():
            run = partial(program, network.variables, frame, state, before)
            times[part].append(timed(lambda run=run: jax.block_until_ready(run())))
        times["key"].append(timed(lambda: stream(frame)))
        if not number:  # compiled, and warmed up
            times = {name: [] for name in times}
    return {name: tuple(map(statistics.median, zip(*pairs))) for name, pairs in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x2048", help="HEIGHTxWIDTH of the frames")
    parser.add_argument("--keyframe", default="swiftnet_r18")
    parser.add_argument("--scale", type=float, default=0.75, help="of keyframes")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    size = tuple(map(int, arguments.size.split("x")))
    image = random_network(arguments.keyframe, arguments.classes)
    found = measure(with_random_propagation(image, "gsvnet", arguments.scale), size, arguments.rounds)
    print("| part | wall, ms | processors, ms | share |", "|---" * 4 + "|", sep="\n")
    total, last = found["enlarge"], (0.0, 0.0)
    for part, shown in PARTS.items():
        wall, cpu = (now - then for now, then in zip(found[part], last))
        print(f"| {shown} | {wall:.1f} | {cpu:.1f} | {100 * wall / total[0]:.0f} % |")
        last = found[part]
    print(f"| frame between | {total[0]:.1f} | {total[1]:.1f} | 100 % |")
    print(f"| keyframe, {arguments.keyframe} | {found['key'][0]:.1f} | {found['key'][1]:.1f} | |")


if __name__ == "__main__":
    main()
