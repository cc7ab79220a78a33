"""Datasets that TFDS built, opened without TensorFlow."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.data.remote_builds import ShardReader
from segjax.errors import UserError
from segjax.files import read_json
from segjax.remote.shards import is_partial

_DESCRIPTION = ("dataset_info.json", "features.json", "metadata.json")


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
    """Returns the TFDS builder of a built dataset.

    Raises UserError for a folder that holds none, and for a damaged description.
    """
    import tensorflow_datasets as tfds

    if not (directory / "dataset_info.json").is_file():
        raise UserError(f"{directory} holds no built dataset (dataset_info.json is missing); check the path")
    for name in _DESCRIPTION:
        _check_description(directory / name)
    try:
        with quiet_tfds():
            return tfds.builder_from_directory(directory)
    except Exception as error:  # TFDS, protobuf and the features that it makes raise all kinds of errors
        raise UserError(
            f"the description of the dataset in {directory} is damaged ({', '.join(_DESCRIPTION)}: {one_line(error)}); "
            f"{built_again(directory)}"
        ) from None


def open_records(builder: Any, directory: Path, split: str, decoders: Mapping[str, Any]) -> Any:
    """Returns random access to the records of a stored split, of a local dataset or the local copy of a remote one."""
    if is_partial(directory):
        return ShardReader(builder, split, decoders)
    return builder.as_data_source(split, decoders=decoders)


def built_again(directory: Path) -> str:
    """Returns the remedy for a damaged dataset, the end of a sentence; that of a stage is deleted with its shards."""
    whole = directory.parent if directory.name == "dataset" and (directory.parent / "shards").is_dir() else directory
    return f"delete the folder {whole}, it is built again"


def one_line(error: Exception) -> str:
    """Returns the beginning of an error of TFDS, which may have several lines, as a part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _check_description(path: Path) -> None:
    """Raises UserError for a file that is no JSON object; TFDS itself asks for those that are missing."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged; {built_again(path.parent)}")


def skip_decoding(builder: Any, *, flow: bool) -> dict[str, Any]:
    """Returns TFDS decoders that keep images encoded: `image_files` decodes those in use, and names damaged ones."""
    import tensorflow_datasets as tfds

    images = [name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    flows = ["flow"] if flow and "flow" in builder.info.features else []
    return {name: tfds.decode.SkipDecoding() for name in (*images, *flows)}
