"""Class ids of enlarged logits: with a running maximum over the classes, beside resizing and argmax, in turns.

    python -m benchmarks.class_ids --size 1024x2048 --stride 8 --classes 19

Prints medians of wall and of processor milliseconds (all threads; others on the machine disturb these less), their
ratios, and the number of pixels that differ.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x2048", help="HEIGHTxWIDTH of the class ids")
    parser.add_argument("--stride", type=int, default=8, help="pixels per cell of the logits")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--align-corners", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()

    import jax
    import jax.numpy as jnp

    from segjax.ops import resize, resize_argmax

    size = tuple(map(int, arguments.size.split("x")))
    coarse = (1, *(side // arguments.stride for side in size), arguments.classes)
    logits = jax.random.normal(jax.random.key(0), coarse)
    align = arguments.align_corners
    ways = {
        "resize, argmax": jax.jit(lambda x: jnp.argmax(resize(x, size, align_corners=align), -1).astype(jnp.uint8)),
        "resize_argmax": jax.jit(lambda x: resize_argmax(x, size, align_corners=align)),
    }
    results = {name: jax.block_until_ready(way(logits)) for name, way in ways.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(way(logits))
            times[name].append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    medians = {name: [statistics.median(column) for column in zip(*pairs)] for name, pairs in times.items()}
    for name, (wall, cpu) in medians.items():
        print(f"{name:15s} {wall:8.1f} ms  {cpu:8.1f} ms of processors")
    ratios = [one / two for one, two in zip(*medians.values())]
    print(f"{'ratio':15s} {ratios[0]:8.1f}     {ratios[1]:8.1f}")
    one, two = results.values()
    print(f"pixels that differ: {int((one != two).sum())} of {one.size}")


if __name__ == "__main__":
    main()
