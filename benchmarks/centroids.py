"""Measures the search for places of classes, and drawing epochs from millions of them.

    python -m benchmarks.centroids            labels of 360x480 and of 1024x2048, and a plan of 6.5 million places
    python -m benchmarks.centroids --dataset camvid --data-dir DIR   labels of a dataset of data_builders/
    python -m benchmarks.centroids --plan-only --places 6500000

The search reads labels only. The row "with images" decodes each image, too, which the search did before. Seconds of
CPU time are given beside those on the clock, because other programs may be running. The plan is measured in a process
of its own (under Linux), from the file of its places to its epochs; memory is the growth of its peak.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from segjax import data
from segjax.data.centroid_search import find_centroids
from segjax.data.centroids import Centroids


def draw_files(folder: Path, count: int, size: tuple[int, int]) -> data.FolderSource:
    """Writes images with noise, and masks of smooth regions: some 130 components of 19 classes."""
    rng = np.random.default_rng(0)
    table = data.class_table("cityscapes")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        smooth = cv2.resize(rng.integers(0, 256, (24, 32, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        waves = [
            cv2.resize(rng.random((10, 14), np.float32), size[::-1], interpolation=cv2.INTER_CUBIC) for _ in range(19)
        ]
        ids = np.array([label.id for label in table.labels if label.train_id < 255], np.uint8)
        mask = ids[np.argmax(waves, axis=0)]
        cv2.imwrite(str(folder / "images" / f"{i:04d}.png"), noisy)
        cv2.imwrite(str(folder / "masks" / f"{i:04d}.png"), mask)
    return data.FolderSource(folder / "images", folder / "masks", table)


class WithImages:
    """A source that decodes the image of each label."""

    def __init__(self, source: data.Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def label(self, index: int) -> np.ndarray:
        """Returns the label of a record."""
        return self._source[index].label


class First:
    """The first records of a source."""

    def __init__(self, source: data.Source, count: int):
        self._source, self._count = source, min(count, len(source))

    def __len__(self) -> int:
        return self._count

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def __getitem__(self, index: int) -> data.Record:
        return self._source[index]


def search(source: data.Source) -> tuple[float, float, int]:
    """Returns (images per second, images per second of CPU time, places per image) of the search."""
    found = find_centroids(First(source, 2), "components")  # files of the system and libraries are read
    clock, cpu = time.perf_counter(), time.process_time()
    found = find_centroids(source, "components")
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    return len(source) / clock, len(source) / cpu, len(found) // len(source)


def write_places(path: Path, count: int, records: int, classes: int) -> None:
    """Writes the places of pseudo labels: classes are as different in frequency as those of street scenes."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, classes + 1)
    found = Centroids(
        records=np.sort(rng.integers(0, records, count)).astype(np.int32),
        classes=rng.choice(classes, count, p=share / share.sum()).astype(np.int32),
        places=rng.integers(0, 1024, (count, 2)).astype(np.int32),
        areas=rng.integers(16, 5000, count).astype(np.int32),
    )
    with open(path, "wb") as file:
        np.savez(file, **vars(found))


def measure_plan(path: Path, records: int, real: int, ratio: float, classes: int) -> dict[str, float]:
    """Returns the seconds and the MB that reading the places, the first epoch and a later one take."""
    from segjax.data.centroid_search import _load
    from segjax.data.mixed_plan import MixedPlan
    from segjax.data.part_plan import PartPlan

    def used() -> tuple[float, float, float]:
        # of this process alone: the peak that getrusage has includes that of the process before exec
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return time.perf_counter(), time.process_time(), int(peak[1]) * 1024 / 1e6

    begin = used()
    places = _load(path)
    read = used()
    part = PartPlan("pseudo", real, records, round(ratio * real), 1.0, places, np.arange(classes))
    plan = MixedPlan((PartPlan("real", 0, real, real), part))
    first = plan.build(0)
    built = used()
    for epoch in range(1, 11):
        plan.build(epoch)
    later = used()
    return {
        "samples": len(first.records),
        "read": read[0] - begin[0],
        "read_cpu": read[1] - begin[1],
        "first": built[0] - read[0],
        "first_cpu": built[1] - read[1],
        "later": (later[0] - built[0]) / 10,
        "later_cpu": (later[1] - built[1]) / 10,
        "mb": later[2] - begin[2],
    }


def side_by_side(text: str) -> tuple[int, int]:
    height, width = text.lower().split("x")
    return int(height), int(width)


def show_search(args: argparse.Namespace, folder: Path) -> None:
    """Prints the images per second of the search."""
    table = Table(title="places of components", title_justify="left")
    for column in ("labels", "what is decoded", "images/s", "per CPU second", "places per image"):
        table.add_column(column, justify="left" if column in ("labels", "what is decoded") else "right")
    for size in [None] if args.dataset else args.sizes:
        if args.dataset:
            source, name = data.open_source(args.dataset, args.split, data_dir=args.data_dir), args.dataset
        else:
            name = "{}x{}".format(*size)
            source = draw_files(folder / name, args.images, size)
        source = First(source, args.images)
        for what, one in (("images and labels", WithImages(source)), ("labels", source)):
            rate, cpu, places = search(one)
            table.add_row(name, what, f"{rate:.0f}", f"{cpu:.0f}", str(places))
    Console(width=100).print(table)


def show_plan(args: argparse.Namespace, folder: Path) -> None:
    """Prints what a plan costs in a process of its own."""
    path = folder / "places.npz"
    write_places(path, args.places, args.records, args.classes)
    command = [sys.executable, "-m", "benchmarks.centroids", "--measure", str(path)]
    command += [f"--{name}={getattr(args, name)}" for name in ("records", "real", "ratio", "classes")]
    root = Path(__file__).parent.parent
    found = json.loads(subprocess.run(command, cwd=root, env=os.environ, check=True, capture_output=True).stdout)
    title = f"{args.places} places in {args.records} images, {found['samples']} samples per epoch"
    table = Table("what", "seconds", "CPU seconds", title=title, title_justify="left")
    table.add_row("read the places", f"{found['read']:.2f}", f"{found['read_cpu']:.2f}")
    table.add_row("sort them, and draw the first epoch", f"{found['first']:.2f}", f"{found['first_cpu']:.2f}")
    table.add_row("a later epoch", f"{found['later']:.3f}", f"{found['later_cpu']:.3f}")
    Console(width=100).print(table)
    Console(width=100).print(f"largest growth of memory: {found['mb']:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="name of a dataset; default: generated files")
    parser.add_argument("--split", default="train")
    parser.add_argument("--data-dir")
    parser.add_argument("--sizes", type=side_by_side, nargs="+", default=[(360, 480), (1024, 2048)])
    parser.add_argument("--images", type=int, default=40, help="labels that are searched")
    parser.add_argument("--places", type=int, default=6_500_000)
    parser.add_argument("--records", type=int, default=40_000, help="images that have the places")
    parser.add_argument("--real", type=int, default=2975, help="real images")
    parser.add_argument("--ratio", type=float, default=13.4, help="samples around places per epoch, over --real")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--plan-only", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_plan(Path(args.measure), args.records, args.real, args.ratio, args.classes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if not args.plan_only:
            show_search(args, Path(folder))
        show_plan(args, Path(folder))


if __name__ == "__main__":
    main()
