"""Pseudo labels of a user's own images or videos: the command `segjax pseudo_label`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from segjax.data.derived import PSEUDO
from segjax.data.image_files import decode_mask, encode_png
from segjax.data.png_file import MAGIC
from segjax.data.tfds_source import TfdsSource
from segjax.data.threads import ordered_map
from segjax.files import write_file, write_json, writing
from segjax.outputs import writing_outputs
from segjax.pseudo.pools import folder_of
from segjax.stages.label_pools import label_pools
from segjax.stages.pseudo_label import open_pools, open_teacher
from segjax.stages.pseudo_options import Options, PoolOptions

OUTPUTS = ("dataset/", "sheets/", "shards/", "report.json")
MASKS = ("images/", "masks/", "label_map.json")


def label_files(
    frames: str | os.PathLike, output: str | os.PathLike, *, every: int = 1, masks: bool = False, **options: Any
) -> dict[str, Any]:
    """Labels images or videos as the stage "pseudo_label" does; returns its report.

    output/dataset is a dataset like that of the stage, output/sheets has pictures, output/report.json the report. After
    an interruption, the same call resumes.

    frames: folder, video, image, or a pattern such as drive/*.jpg.
    output: folder to write.
    every: N takes every Nth image, and every Nth frame of each video.
    masks: whether to write output/images, output/masks (raw ids) and output/label_map.json too, to be corrected.
    options: of the stage, see `pseudo_label.Options`.

    Raises UserError for images, a checkpoint or options that cannot be used, an output that segjax did not write, and a
    full disk.
    """
    output = Path(output)
    pool = re.sub(r"[^\w.-]", "_", folder_of(frames).absolute().stem) or "own"
    chosen = Options(unlabelled={pool: PoolOptions(frames=str(frames), every=every)}, **options)
    names = OUTPUTS + (MASKS if masks else ())
    with writing_outputs(output, names, reads=[folder_of(frames)], apart=False):
        network = open_teacher(chosen, None, where="")
        pools = open_pools(chosen, None, network.label_map.class_names, where="", exclude=output)
        report = label_pools(chosen, network, pools, output, where="", option="--output")
        if masks:
            write_masks(Path(report["dataset"]), output)
        write_json(output / "report.json", report)
    return report


def write_masks(directory: Path, output: Path) -> None:
    """Writes the records of a pseudo-labelled dataset as images and masks of the same names, and their label map.

    directory: of the dataset.
    output: folder that receives images/, masks/ and label_map.json.

    Raises UserError for files that cannot be written.
    """
    source = TfdsSource(directory, PSEUDO)

    def write(index: int) -> None:
        example = source.example(index)
        name = example["name"].decode().partition("/")[2]
        image, mask = source.encoded_image(index), decode_mask(example["label"], name)
        suffix = ".png" if image.startswith(MAGIC) else ".jpg"
        for path, data in (("images", image), ("masks", encode_png(mask))):
            file = output / path / f"{name}{suffix if path == 'images' else '.png'}"  # a name may have dots
            with writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                write_file(file, data, durable=False)

    for _ in ordered_map(write, range(len(source))):
        pass
    source.label_map.save(output / "label_map.json")
