"""The features that a record has in every dataset."""

from __future__ import annotations

from typing import Any

import numpy as np

from segjax.data.label_map import LabelMap


def record_features(label_map: LabelMap) -> dict[str, Any]:
    """Returns name -> TFDS feature of what every record stores.

    label_map: of the raw ids in `label`, which is stored with 16 bits if an id exceeds 255.

    image: (h, w, 3) as PNG or JPEG. label: (h, w, 1) raw ids as PNG, without meaning unless `labelled` is true.
    name: unique in the split. sequence, frame: video and position in it. height, width: pixels.
    """
    import tensorflow_datasets as tfds  # slow to import, and most programs only read

    wide = max(label.id for label in label_map.table.labels) > 255
    dtype = np.uint16 if wide else np.uint8
    return {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.Image(shape=(None, None, 1), dtype=dtype, encoding_format="png"),
        "name": tfds.features.Text(),
        "sequence": tfds.features.Text(),
        "frame": np.int32,
        "height": np.int32,
        "width": np.int32,
        "labelled": np.bool_,
    }
