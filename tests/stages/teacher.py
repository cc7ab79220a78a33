"""A teacher without training: classes of the synthetic street by the colour of a pixel, and an oracle in numpy."""

import os
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from segjax.data import LabelMap, class_table, open_source
from segjax.stages import pseudo_label, run_recipe
from tests import stand_in

STREET = dict(height=32, width=48, train=3, validation=1, test=1, frames=6, labelled_every=1)
MAP = LabelMap(class_table("cityscapes"))
SHARP = 30.0  # so that probabilities spread from 0.2 to 1


def street(street_dir, split="train", **options):
    return open_source("synthetic_street", split, data_dir=street_dir, builder_options=STREET, **options)


def write_images(root, source):
    """Images as people have them: a JPEG, a PNG, a grey PNG, a damaged file, a larger JPEG, a note."""
    for name, place in (("b10.jpg", 0), ("b9.png", 1)):
        cv2.imwrite(str(root / name), source[place].image[..., ::-1])
    cv2.imwrite(str(root / "grey.png"), source[2].image[..., 0])
    (root / "broken.jpg").write_bytes((root / "b10.jpg").read_bytes()[:300])
    (root / "sub").mkdir()
    cv2.imwrite(str(root / "sub/large.jpg"), cv2.resize(source[3].image, (96, 64))[..., ::-1])
    (root / "notes.txt").write_text("nothing")
    return root


def logits(variables, images):
    """Images (b, h, w, 3) in 0..1 -> minus the squared distance to the colour of each class."""
    return -SHARP * jnp.square(images[..., None, :] - variables).sum(-1)


def network(label_map=MAP):
    return stand_in.network(logits, label_map, jnp.asarray(label_map.palette, jnp.float32) / 255)


def probabilities(image, palette=MAP.palette):
    """The oracle: image uint8 (h, w, 3) -> float64 (h, w, k)."""
    distance = image[..., None, :].astype(np.float64) / 255 - palette.astype(np.float64) / 255
    values = np.exp(-SHARP * np.square(distance).sum(-1))
    return values / values.sum(-1, keepdims=True)


def config(data_dir, **section):
    options = dict(
        checkpoint="teacher", unlabelled=dict(rest=dict(split="train::3")), batch_size=2, shard_images=3, sheet_rows=0
    )
    return ConfigDict(
        dict(
            seed=0,
            stages=("pseudo_label",),
            dataset=dict(
                name="synthetic_street", options=STREET, train="train", validation="validation", data_dir=str(data_dir)
            ),
            pseudo_label={"kind": "pseudo_label", **options, **section},
        )
    )


def label(data_dir, workdir, **section):
    """Runs the stage with the teacher; returns its report."""
    (Path(workdir) / "teacher").mkdir(parents=True, exist_ok=True)
    before = pseudo_label.open_network
    pseudo_label.open_network = lambda path, **options: network()
    try:
        return run_recipe(config(data_dir, **section), workdir=workdir)["pseudo_label"]
    finally:
        pseudo_label.open_network = before


def files(folder):
    """Name -> bytes of a dataset's records."""
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.array_record*")}


if __name__ == "__main__":  # python -m tests.stages.teacher DATA_DIR WORKDIR [ADDRESS INDEX]
    import sys

    from segjax import parallel

    if len(sys.argv) > 3:
        parallel.setup(coordinator=sys.argv[3], num_processes=2, process_id=int(sys.argv[4]))
    label(sys.argv[1], sys.argv[2], shard_images=int(os.environ.get("SHARD_IMAGES", "3")))
