"""Datasets that TFDS built, opened without TensorFlow."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from segjax.errors import UserError


@contextlib.contextmanager
def quiet_tfds():
    """Silences the log lines of TFDS that are no errors."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def open_builder(directory: Path) -> Any:
    """Returns the TFDS builder of a built dataset. Raises UserError for a folder that holds none."""
    import tensorflow_datasets as tfds

    if not (directory / "dataset_info.json").is_file():
        raise UserError(f"{directory} holds no built dataset (dataset_info.json is missing); check the path")
    with quiet_tfds():
        return tfds.builder_from_directory(directory)


def skip_decoding(builder: Any, *, flow: bool) -> dict[str, Any]:
    """Returns TFDS decoders that keep images encoded: `image_files` decodes those in use, and names damaged ones."""
    import tensorflow_datasets as tfds

    images = [name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    flows = ["flow"] if flow and "flow" in builder.info.features else []
    return {name: tfds.decode.SkipDecoding() for name in (*images, *flows)}
