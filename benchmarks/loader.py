"""Measures the images per second that the input pipeline reads, and those that the augmentation turns into crops.

    python benchmarks/loader.py                                                generated PNG files of 360x480
    python benchmarks/loader.py --size 1024x2048 --crop 800x800 --images 32
    python benchmarks/loader.py --dataset camvid --options '{"source_dir": "DIR"}'   a dataset of data_builders/

Training waits for data if the slower of the two is slower than the network. Each row is one setting of the loader. The
first pass over --images images warms it up (workers start, files are read into memory); the next pass is timed.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import clock
from segjax import data
from segjax.data import plans


def draw_files(folder: Path, count: int, size: tuple[int, int]) -> data.FolderSource:
    """Writes images of smooth colours with noise, which PNG compresses like photographs, and masks of blocks."""
    rng = np.random.default_rng(0)
    table = data.class_table("camvid")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(count):
        smooth = cv2.resize(
            rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
        )
        noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        blocks = rng.integers(0, len(table.names), (9, 12), dtype=np.uint8)
        mask = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / "images" / f"{i:04d}.png"), noisy)
        cv2.imwrite(str(folder / "masks" / f"{i:04d}.png"), mask)
    return data.FolderSource(folder / "images", folder / "masks", table)


class First:
    """The first records of a source."""

    def __init__(self, source, count: int):
        self.source, self.count, self.sizes = source, min(count, len(source)), source.sizes[:count]
        self.top_k = source.top_k

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        return self.source[index]


def loader_rates(source, reading: data.Reading, *, crop, batch: int, scale_range, repeats: int = 1) -> list[float]:
    """Returns the images per second of each of so many passes over a source, after one that warms up."""
    plan = plans.make_plan("uniform", {}, source)
    timeline = data.Timeline.constant(plan.length, crop=crop, batch=batch, epochs=repeats + 2)
    samples = data.ImageCrops(reading.cached(source), scale_range)
    batches = data.train_batches(samples, plan, timeline, reading)
    steps, rates = timeline.epoch_start(1), []
    for number in range(repeats + 1):
        start = time.perf_counter()
        for _ in itertools.islice(batches, steps):
            pass
        if number:
            rates.append(steps * batch / (time.perf_counter() - start))
    batches.close()
    return rates


def augmentations(source, *, crop, batch: int, scale_range) -> dict[str, clock.Timed]:
    """Returns timed runs of the augmentation alone, on the first batch."""
    import jax

    from segjax import augment

    plan = plans.make_plan("uniform", {}, source)
    timeline = data.Timeline.constant(plan.length, crop=crop, batch=batch, epochs=1)
    _, first = next(iter(data.train_batches(data.ImageCrops(source, scale_range), plan, timeline)))
    first = jax.device_put(first)
    mean, std = augment.normalisation("imagenet")
    jitter = dict(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25)
    blur = dict(sigma=(0.15, 1.3))
    kinds = {
        "scale, crop, flip": {},
        "+ colour jitter": dict(color_jitter=jitter),
        "+ blur": dict(color_jitter=jitter, blur=blur),
    }
    runs = {}
    for name, options in kinds.items():
        function = functools.partial(augment.augment_batch, seed=0, crop=crop, mean=mean, std=std, **options)
        compiled = jax.jit(function).lower(first).compile()
        runs[name] = clock.stopwatch(functools.partial(compiled, first))
    return runs


def side_by_side(text: str) -> tuple[int, int]:
    height, width = text.lower().split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="name of a dataset; default: generated files")
    parser.add_argument("--split", default="train")
    parser.add_argument("--data-dir")
    parser.add_argument("--options", type=json.loads, default={}, help="builder options as JSON")
    parser.add_argument("--size", type=side_by_side, default=(360, 480), help="height x width of the files drawn")
    parser.add_argument("--images", type=int, default=64, help="images that are timed, and files drawn")
    parser.add_argument("--crop", type=side_by_side, default=(320, 448))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scale-range", type=float, nargs=2, default=(0.5, 2.0))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({0, 1, cores, 2 * cores}))
    parser.add_argument("--workers", type=int, nargs="*", default=[cores])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        if args.dataset:
            source = data.open_source(args.dataset, args.split, data_dir=args.data_dir, builder_options=args.options)
        else:
            source = draw_files(Path(folder), args.images, args.size)
        source = First(source, args.images)
        what = args.dataset or "PNG files of {}x{}".format(*args.size)
        crop = "{}x{}".format(*args.crop)
        table = Table(
            title=f"{what}, crop {crop}, batch {args.batch}, {cores} cores", title_justify="left", min_width=66
        )
        table.add_column("what")
        table.add_column("images/s", justify="right")
        how = dict(crop=args.crop, batch=args.batch, scale_range=args.scale_range)

        def rate_of(**reading):
            return loader_rates(source, data.Reading(**reading), **how)[0]

        for threads in args.threads:
            rate = rate_of(num_threads=threads)
            table.add_row("read when asked" if threads == 0 else f"{threads} threads", f"{rate:.0f}")
        for workers in args.workers:
            rate = rate_of(num_workers=workers, num_threads=workers)
            table.add_row(f"{workers} worker processes", f"{rate:.0f}")
        rate = rate_of(num_threads=cores, cache_bytes=1 << 34)
        table.add_row(f"{cores} threads, decoded images in memory", f"{rate:.0f}")
        table.add_section()
        for name, times in clock.take_turns(augmentations(source, **how), args.repeats).items():
            rate = args.batch / statistics.median(wall for wall, _ in times)
            table.add_row(f"augmentation: {name}", f"{rate:.0f}")
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
