"""Images per second that the input pipeline reads on the host, and that the device augments."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import clock, loader
from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures, rates, spread, walls
from segjax import data
from segjax.host import usable_cores


def measure(part: str, context: Context) -> Figures:
    """part: "host", PNG files decoded and cropped by threads, and kept in memory; "augmentation".

    The files are drawn first.
    """
    count, size = context.sizes.files
    how = dict(crop=context.sizes.crop, batch=context.sizes.batch, scale_range=(0.5, 2.0))
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        source = loader.draw_files(Path(folder), how["batch"] if part == "augmentation" else count, size)
        if part == "augmentation":
            found = clock.take_turns(loader.augmentations(source, **how), context.sizes.repeats)
            return {f"{name}, images/s": rates(walls(times), how["batch"]) for name, times in found.items()}
        kinds = {
            "1 thread": dict(num_threads=1),
            f"all {cores} threads": dict(num_threads=cores),
            f"all {cores}, decoded images in memory": dict(num_threads=cores, cache_bytes=1 << 34),
        }
        rows = {
            name: spread(loader.loader_rates(source, data.Reading(**reading), repeats=3, **how))
            for name, reading in kinds.items()
        }
    return {f"{name}, images/s": row for name, row in rows.items()}
