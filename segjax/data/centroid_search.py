"""Searches the labels of a source for places of classes, once: what was found is kept in files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from segjax.data.centroids import Centroids, component_centroids, concatenate, tile_centroids
from segjax.data.sources import Source
from segjax.data.threads import ordered_map
from segjax.errors import UserError, did_you_mean
from segjax.files import replacing

_FORMAT = 1  # part of the cache's key; raise it when the computation of centroids changes


def find_centroids(
    source: Source,
    kind: str = "tiles",
    *,
    cache: str | os.PathLike | None = None,
    workers: int | None = None,
    **options,
) -> Centroids:
    """Returns the places of every record of a source, which are computed once and kept in a file.

    kind: "tiles" or "components".
    cache: folder of the file; None keeps none. The file's name is a digest of the records' names and sizes, the
        classes, the settings, and the labels of a few records: other records or settings never find an old file.
    workers: threads, by default one per core.
    options: those of `tile_centroids` or `component_centroids`.

    Raises UserError for an unknown kind, a source without records, and a record without label.
    """
    functions = {"tiles": tile_centroids, "components": component_centroids}
    if kind not in functions:
        raise UserError(f"centroids={kind!r} is not known.{did_you_mean(kind, functions)}")
    function = functools.partial(functions[kind], num_classes=source.num_classes, **options)
    path = None
    if cache is not None:
        path = Path(cache) / f"centroids-{kind}-{_digest(source, kind, options)}.npz"
        if path.is_file():
            with np.load(path) as arrays:
                return Centroids(**arrays)
    found = ordered_map(lambda i: function(_label(source, i)), range(len(source)), workers=workers)
    parts = [Centroids(np.full(len(classes), i, np.int32), classes, *rest) for i, (classes, *rest) in enumerate(found)]
    if not parts:
        raise UserError("there are no records to look for centroids in; give a split that has labelled images.")
    result = concatenate(parts)
    if path is not None:
        _save(result, path)
    return result


def _label(source: Source, index: int) -> np.ndarray:
    record = source[index]
    if record.label is None:
        raise UserError(f"{record.name} has no label to find classes in; open the split with labelled_only=True.")
    return record.label


def _digest(source: Source, kind: str, options: dict) -> str:
    digest = hashlib.sha256()
    settings = dict(
        format=_FORMAT, kind=kind, options=options, num_classes=source.num_classes, names=list(source.names)
    )
    if getattr(source, "fingerprint", ""):
        settings["fingerprint"] = source.fingerprint
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(source.sizes, np.int64).tobytes())
    # finds files that were labelled again under the old names
    for index in np.unique(np.linspace(0, len(source) - 1, num=min(8, len(source))).astype(int)):
        digest.update(np.ascontiguousarray(_label(source, int(index))).tobytes())
    return digest.hexdigest()[:20]


def _save(centroids: Centroids, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # several processes may write the same file
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **dataclasses.asdict(centroids))
