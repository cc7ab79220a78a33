"""Images that a dataset names instead of storing them: a file, its bytes and its digest.

A record then stores one black pixel as its image. Reading checks that the file is still the one that was labelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.image_files import encode_png, read_bytes
from segjax.errors import UserError

# feature name -> type, see `RecordShards.extra`
REFERENCE = {"file": "text", "file_bytes": "int", "file_sha256": "text"}


def reference(path: Path, data: bytes) -> dict[str, Any]:
    """Returns the features of a record whose image stays in its file.

    path: of the file, stored as an absolute path.
    data: its content.
    """
    return {
        "image": encode_png(np.zeros((1, 1, 3), np.uint8)),
        "file": str(path.absolute()),
        "file_bytes": len(data),
        "file_sha256": hashlib.sha256(data).hexdigest(),
    }


def image_bytes(example: Mapping[str, Any]) -> bytes:
    """Returns the encoded image of a stored record, from the record or from the file that it names.

    Raises UserError for a file that is missing, or is not the one that was labelled.
    """
    if not example.get("file"):
        return example["image"]
    path = example["file"].decode()
    try:
        data = read_bytes(path)
    except UserError as error:
        raise UserError(f"{error}; its pseudo label refers to it (images='referenced')") from None
    if len(data) != int(example["file_bytes"]):
        raise _changed(path, f"{len(data)} bytes instead of {int(example['file_bytes'])}")
    if hashlib.sha256(data).hexdigest() != example["file_sha256"].decode():
        raise _changed(path, "another content")
    return data


def _changed(path: str, how: str) -> UserError:
    return UserError(
        f"{path} has changed since its pseudo label was written ({how}); restore it, or label the images again"
    )
