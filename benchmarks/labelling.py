"""Images per second of a network's labels (ids, confidence, the most probable classes) beside the bare network.

    python -m benchmarks.labelling --model=swiftnet_efficientnet_lite0 --size=360x480 --batch=4
    python -m benchmarks.labelling --checkpoint=runs/camvid/train --size=720x960 --top-k=5

The bare network is the jitted logits of one view, on the same devices; nothing is done with them. The labels come to
the host as in `segjax predict`: the next batch is started before a result is waited for. All get the same random images
and take turns; speeds and shares of the bare network's speed are medians over the turns. On a CPU that others use as
well, compare the shares in processor seconds.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from segjax import models, parallel  # noqa: E402
from segjax.inference.network import Network, images_at_once, open_network  # noqa: E402
from segjax.media.clips import Frame  # noqa: E402
from segjax.media.frame_batches import FilledBatches, predictions  # noqa: E402

Groups = Sequence[list[Frame]]
Compute = Callable[[Groups], None]


def random_network(model: str, classes: int, dtype: str = "float32") -> Network:
    """Returns a network with random weights."""
    options = {"dtype": dtype}
    module = models.create(model, classes, **options)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 128, 128, 3)))
    spec = {"name": model, "num_classes": classes, "options": options}
    return Network(spec, module, variables, "imagenet", None, 0, {})


def random_groups(size: tuple[int, int], *, batch: int, count: int) -> Groups:
    """Returns `count` full batches of frames of random pixels; size: (h, w)."""
    rng = np.random.default_rng(0)
    return [[Frame(f"{i}", i, rng.integers(0, 256, (*size, 3), np.uint8)) for i in range(batch)] for _ in range(count)]


def bare(network: Network) -> Compute:
    """Returns a function that computes the logits of all groups and leaves them on the devices."""
    logits = jax.jit(lambda variables, images: dataclasses.replace(network, variables=variables).logits(images))
    run = parallel.over_local_devices(logits, network.variables)

    def compute(groups: Groups) -> None:
        running: collections.deque = collections.deque()
        for group in groups:
            running.append(run(np.stack([frame.image for frame in group])))
            if len(running) > 1:  # as many results at once as in `predictions`
                jax.block_until_ready(running.popleft())
        jax.block_until_ready(list(running))

    return compute


def labels(network: Network, batch: int, **options: Any) -> Compute:
    """Returns a function that brings the labels of all groups to the host; options: of `Network.labeller`."""
    run = FilledBatches(network.labeller(**options), batch)

    def compute(groups: Groups) -> None:
        for _ in predictions(run, groups):
            pass

    return compute


def take_turns(contestants: Mapping[str, Compute], groups: Groups, *, turns: int) -> list[dict[str, Any]]:
    """Returns a row for each contestant: images per second, and its shares of the speed of the first one.

    turns: number of times that each labels all groups, after one that compiles.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, compute in contestants.items():
            start, cpu = time.perf_counter(), time.process_time()
            compute(groups)
            if turn:
                seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    images = sum(map(len, groups))
    first = seconds[next(iter(contestants))]
    return [
        {
            "what": name,
            "images_per_s": round(images / statistics.median(wall for wall, _ in mine), 3),
            "share": round(statistics.median(a / b for (a, _), (b, _) in zip(first, mine)), 3),
            "cpu_share": round(statistics.median(a / b for (_, a), (_, b) in zip(first, mine)), 3),
        }
        for name, mine in seconds.items()
    ]


def measure(
    network: Network, size: tuple[int, int], *, batch: int, top_k: int = 3, batches: int = 4, turns: int = 5
) -> list[dict[str, Any]]:
    """Returns rows of `take_turns`: the bare network, ids, with confidence, and with the most probable classes too.

    size: (h, w) of the images.
    batch: images at once.
    top_k: number of most probable classes.
    batches, turns: batches of a turn, and number of turns.
    """
    contestants = {
        "bare network": bare(network),
        "ids": labels(network, batch),
        "ids, confidence": labels(network, batch, confidence=True),
        f"ids, confidence, top {top_k}": labels(network, batch, confidence=True, top_k=top_k),
    }
    return take_turns(contestants, random_groups(size, batch=batch, count=batches), turns=turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="training run, stage, checkpoint or exported weights")
    parser.add_argument("--model", default="swiftnet_efficientnet_lite0", help="with random weights")
    parser.add_argument("--classes", type=int, default=11, help="of --model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--size", default="360x480", help="height x width of the images")
    parser.add_argument("--batch", type=int, help="images at once; default: 1 per CPU device, 4 per accelerator")
    parser.add_argument("--batches", type=int, default=4, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--json", help="append the rows to this file, one JSON object a line")
    args = parser.parse_args()

    if args.checkpoint:
        network = open_network(args.checkpoint, dtype=args.dtype)
    else:
        network = random_network(args.model, args.classes, args.dtype)
    size, batch = tuple(map(int, args.size.split("x"))), images_at_once(args.batch)
    rows = measure(network, size, batch=batch, top_k=args.top_k, batches=args.batches, turns=args.turns)
    print(f"{network.spec['name']}, {args.size}, {batch} images at once, {jax.local_device_count()} devices")
    for row in rows:
        print(
            f"{row['what']:<24} {row['images_per_s']:9.2f} images/s {100 * row['share']:6.1f} % of the bare network, "
            f"{100 * row['cpu_share']:6.1f} % in processor seconds"
        )
    if args.json:
        common = dict(model=network.spec["name"], size=args.size, batch=batch, dtype=args.dtype)
        with open(args.json, "a") as file:
            file.writelines(json.dumps({**common, **row}) + "\n" for row in rows)


if __name__ == "__main__":
    main()
