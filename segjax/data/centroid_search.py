"""Searches the labels of a source for places of classes, once: what was found is kept in files."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segjax.data.array_file import read_arrays
from segjax.data.centroids import Centroids, component_centroids, concatenate, tile_centroids
from segjax.data.sources import Source
from segjax.data.threads import ordered_map
from segjax.errors import UserError, did_you_mean
from segjax.files import replacing

log = logging.getLogger("segjax")

PART = 1000  # records whose places are kept in one file while the search lasts
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

    Only labels are read. While the file is being made, the places of every 1,000 records are kept in a file of their
    own, so that a killed process repeats 1,000 records at most. Several processes may search the same source.

    kind: "tiles" or "components".
    cache: folder of the file; None keeps none. The file's name is a digest of the records' names and sizes, the
        classes, the settings, and the labels of a few records: other records or settings never find an old file.
    workers: threads, by default one per core.
    options: those of `tile_centroids` or `component_centroids`.

    Raises UserError for an unknown kind, a source without records, a record without label, and a damaged file of the
    cache.
    """
    functions = {"tiles": tile_centroids, "components": component_centroids}
    if kind not in functions:
        raise UserError(f"centroids={kind!r} is not known.{did_you_mean(kind, functions)}")
    if not len(source):
        raise UserError("there are no records to look for centroids in; give a split that has labelled images.")
    function = functools.partial(functions[kind], num_classes=source.num_classes, **options)
    if cache is None:
        return _search(source, function, range(len(source)), workers)
    whole = Path(cache) / f"centroids-{kind}-{_digest(source, kind, options)}.npz"
    found = _load(whole)
    if found is None:
        found = _in_parts(whole, len(source), lambda rows: _search(source, function, rows, workers))
    return found


def _in_parts(whole: Path, count: int, search: Callable[[range], Centroids]) -> Centroids:
    """Searches `count` records and writes `whole`; the files of the parts are removed at the end."""
    starts = range(0, count, PART)
    files = [whole.with_name(f"{whole.stem}-{start:07d}.npz") for start in starts]
    done = sum(file.is_file() for file in files)
    before = f"; {done} of {len(files)} parts were found before" if done else ""
    log.info("looking for places of classes in %d labels%s", count, before)
    parts: list[Centroids] = []
    for start, file in zip(starts, files):
        part = _load(file)
        if part is None:
            result = _load(whole)  # another process may have finished
            if result is not None:
                break
            part = search(range(start, min(start + PART, count)))
            _save(part, file)
        parts.append(part)
    else:
        result = concatenate(parts)
        parts.clear()  # they are as large as the result
        _save(result, whole)
    for file in files:
        file.unlink(missing_ok=True)
    return result


def _search(source: Source, function: Callable, rows: range, workers: int | None) -> Centroids:
    found = ordered_map(lambda i: function(_label(source, i)), rows, workers=workers)
    return concatenate(
        [Centroids(np.full(len(classes), i, np.int32), classes, *rest) for i, (classes, *rest) in zip(rows, found)]
    )


def _label(source: Source, index: int) -> np.ndarray:
    label = source.label(index)
    if label is None:
        raise UserError(
            f"{source.names[index]} has no label to find classes in; open the split with labelled_only=True, or "
            "draw its records with the sampler's kind 'uniform'."
        )
    return label


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


def _load(path: Path) -> Centroids | None:
    """Returns the content of a file of the cache; None if it does not exist."""
    try:
        return Centroids(**read_arrays(path))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; delete it, and its places are looked for again.") from None


def _save(centroids: Centroids, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # several processes may write the same file
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **vars(centroids))  # asdict would copy the arrays
