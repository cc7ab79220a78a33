"""A small propagated dataset, written shard by shard."""

import numpy as np

from segjax.data import LabelMap, class_table
from segjax.data.derived import PROVENANCE, provenance_file
from segjax.data.image_files import encode_png
from segjax.data.record_shards import RecordShards

MAP = LabelMap(class_table("camvid"))


def shards(folder, *, kind="propagated", **identity):
    return RecordShards(
        folder, name="propagated", splits=("jp", "lp"), label_map=MAP, extra=PROVENANCE,
        identity={"method": "flow", "steps": 2, **identity}, description="a test", kind=kind,
    )  # fmt: skip


def example(number, mode, step):
    image = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return {
        "image": encode_png(image),
        "label": encode_png(image[..., 0] % 12),
        "name": f"v_{number:03d}{step:+d}",
        "sequence": "v",
        "frame": number + step,
        "height": 6,
        "width": 8,
        "labelled": True,
        "source_name": f"v_{number}",
        "source_frame": number,
        "step": abs(step),
        "direction": int(np.sign(step)),
        "mode": mode,
        "method": "flow",
        "model": "none",
        "config": "abc",
    }


def contents(number, steps=(1, -1, 2)):
    return {mode: [example(number, mode, step) for step in steps] for mode in ("jp", "lp")}


def finish(made, count, steps=(1, -1, 2)):
    files = {
        provenance_file(mode): {"steps": np.int32([*steps] * count), "config": np.array("abc")} for mode in made.splits
    }
    return made.finish(count, extra_files=files)
