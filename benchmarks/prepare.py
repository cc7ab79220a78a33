"""Images per second and peak memory of preparing and reading Cityscapes at its size, on random images.

    python -m benchmarks.prepare                            20 and 60 images of 1024x2048
    python -m benchmarks.prepare --images 100 --size 512x1024

The images are drawn and written first, as Cityscapes' tree with instance maps. Then, each in a process of its own: the
builder prepares them (every file is decoded, checked and stored), a source reads them one by one, and a submission of
them is packed and scored by the official rule. A rate per core is images per second of processor time, over all
threads, so that other programs on the machine hardly matter; memory is the peak of the process. If it were to grow
with the number of images, the rows would differ by it.
"""

import argparse
import importlib
import json
import os
import resource
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
from segjax.media.archives import open_files
from segjax.metrics import official_scores
from segjax.submission import package as submission
from segjax.submission.servers import SERVERS

IDS = np.array([label.id for label in data.class_table("cityscapes").classes], np.uint8)


def draw(tree: Path, count: int, size: tuple[int, int]) -> None:
    """Smooth colours with noise, which PNG packs as it does photographs; labels and instances of blocks."""
    rng = np.random.default_rng(0)
    for number in range(count):
        frame = f"aachen_{number:06d}_000019"
        small = rng.integers(0, 256, (12, 24, 3), dtype=np.uint8)
        smooth = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(-6, 7, smooth.shape, np.int16)
        blocks = cv2.resize(rng.choice(IDS, (24, 48)), size[::-1], interpolation=cv2.INTER_NEAREST)
        instances = np.where(blocks >= 24, blocks * 1000.0 + 1, blocks).astype(np.uint16)
        for name, array in (
            (f"leftImg8bit/{{}}/aachen/{frame}_leftImg8bit.png", np.clip(smooth + noise, 0, 255).astype(np.uint8)),
            (f"gtFine/{{}}/aachen/{frame}_gtFine_labelIds.png", blocks),
            (f"gtFine/{{}}/aachen/{frame}_gtFine_instanceIds.png", instances),
        ):
            path = tree / name.format("train" if number else "val")  # a tree needs both splits
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), array)


def some_of(tree: Path, count: int, folder: Path) -> Path:
    """The tree's first images, as links."""
    for path in sorted(tree.rglob("*.png")):
        if int(path.name.split("_")[1]) < count:
            link = folder / path.relative_to(tree)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return folder


def options_of(tree: Path) -> dict:
    return {"source_dir": str(tree), "partial": True, "instances": True}


def prepare(tree: Path, place: Path) -> int:
    data.build_dataset("cityscapes", data_dir=place, builder_options=options_of(tree))
    return len(opened(tree, place))


def opened(tree: Path, place: Path, **options) -> data.TfdsSource:
    options = {"data_dir": place, "builder_options": options_of(tree), **options}
    return data.open_source("cityscapes", "train+validation", **options)


def read(tree: Path, place: Path) -> int:
    source = opened(tree, place)
    for index in range(len(source)):
        assert source[index].label is not None
    return len(source)


def score(tree: Path, place: Path) -> int:
    """Packs and scores predictions: the published labels themselves."""
    source, server = opened(tree, place, fields=("instances",)), SERVERS["cityscapes"]
    predictions = place / "predictions"
    predictions.mkdir()
    for path in tree.rglob("*_labelIds.png"):
        (predictions / path.name).symlink_to(path.resolve())
    with open_files(predictions) as files:
        archive = submission.pack(server, files, source, place / "submission.zip")
    with open_files(archive) as files:
        scores = official_scores(server.rule, submission.score(server, files, source))
    assert scores["miou"] == 1 and scores["mean_iiou"] == 1
    return len(source)


JOBS = {"prepare": prepare, "read": read, "submit": score}


def measure(job: str, tree: Path, place: Path) -> dict[str, float]:
    """One job in this process; importing packages is not counted."""
    importlib.import_module("tensorflow_datasets")
    before, begin = sum(os.times()[:2]), time.perf_counter()
    images = JOBS[job](tree, place)
    seconds, used = time.perf_counter() - begin, sum(os.times()[:2]) - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"images": images, "seconds": seconds, "cpu": used, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 60], help="how many images (20 60)")
    parser.add_argument("--size", default="1024x2048", help="height x width in pixels (1024x2048)")
    parser.add_argument("--job", nargs=3, metavar=("NAME", "TREE", "PLACE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(measure(args.job[0], Path(args.job[1]), Path(args.job[2]))))
        return
    size = tuple(map(int, args.size.split("x")))
    table = Table(title=f"Cityscapes with instance maps, {args.size}, {os.cpu_count()} cores")
    for heading in ("job", "images", "images/s", "images/s per core", "peak memory, MiB"):
        table.add_column(heading, justify="left" if heading == "job" else "right")
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "all", max(args.images), size)
        for count in args.images:
            tree = some_of(Path(folder) / "all", count, Path(folder) / f"tree{count}")
            for job in JOBS:
                command = [sys.executable, __file__, "--job", job, str(tree), f"{folder}/built{count}"]
                run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(run.stdout.splitlines()[-1])
                n = found["images"]
                rates = (f"{n / found['seconds']:.1f}", f"{n / found['cpu']:.1f}", f"{found['peak_mb']:.0f}")
                table.add_row(job, str(n), *rates)
    Console().print(table)


if __name__ == "__main__":
    main()
