"""The description (DatasetInfo) of a dataset: features of its records, label map, divisions, source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_builders.about import About
from segjax.data.label_map import LabelMap
from segjax.data.record_features import record_features
from segjax.data.splits import available


def dataset_info(
    builder: tfds.core.DatasetBuilder,
    *,
    description: str,
    label_map: LabelMap,
    extra_features: dict[str, Any] | None = None,
    divisions: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> tfds.core.DatasetInfo:
    """Returns the DatasetInfo of a builder; records keep the order in which they are yielded.

    label_map: of the raw ids in `label`.
    extra_features: features beside those of every record, for example the optical flow.
    divisions: further splits, made of the stored ones (`segjax.data.splits.division`).
    kwargs: homepage, citation, ...
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict({**record_features(label_map), **(extra_features or {})}),
        metadata=tfds.core.MetadataDict(label_map=label_map.to_dict(), splits=dict(divisions or {})),
        disable_shuffling=True,
        **kwargs,
    )


def published_info(
    builder: tfds.core.DatasetBuilder,
    about: About,
    label_map: LabelMap,
    *,
    stored: Collection[str] | None = None,
    instances: bool = False,
) -> tfds.core.DatasetInfo:
    """Returns the DatasetInfo of a published dataset.

    about: facts about the published files.
    label_map: of the raw ids in `label`.
    stored: the splits of this build, None = all; divisions of other splits are omitted.
    instances: adds the feature instances, uint16 (h, w, 1), raw id * 1000 + number.
    """
    divisions = about.divisions if stored is None else available(about.divisions, stored)
    extra = {"instances": tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png")}
    return dataset_info(
        builder,
        description=f"{about.title}. Licence: {about.licence}",
        label_map=label_map,
        extra_features=extra if instances else None,
        divisions=divisions,
        homepage=about.homepage,
        citation=about.citation,
    )
