"""Makes, checks and scores what evaluation servers take: the command `segjax submit`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import metrics
from segjax.data import Source, TfdsSource, open_source
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.files import as_text, differences
from segjax.inference.files import predict_files
from segjax.inference.network import images_at_once, open_network
from segjax.media.archives import SUFFIXES, open_files
from segjax.media.clips import Frame
from segjax.media.progress import progress_bar
from segjax.metrics.plain import plain_scores
from segjax.submission import package
from segjax.submission.servers import Server


@dataclasses.dataclass(frozen=True)
class Submission:
    """place: the archive, or the folder that was checked. images: how many. sha256: of an archive, else "".

    warnings: what keeps the real server from taking it. scores: by the server's rule as plain numbers with names
    (`plain_scores`), None where the truth is not known.
    """

    place: Path
    images: int
    sha256: str
    warnings: tuple[str, ...]
    scores: Mapping[str, Any] | None


def open_records(
    dataset: str, split: str, *, data_dir: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[TfdsSource, bool]:
    """(records of a split, whether their truth is known); of a split that is labelled in part the labelled ones."""
    source = open_source(dataset, split, data_dir=data_dir, builder_options=options, labelled_only=False)
    labelled = source.index.labelled
    if labelled.any():
        fields = ("instances",) if (options or {}).get("instances", False) else ()
        source = open_source(dataset, split, data_dir=data_dir, builder_options=options, fields=fields)
    return source, bool(labelled.any())


def check_output(output: str | os.PathLike) -> Path:
    """The path of an archive to write; UserError for another ending, or one that is there."""
    output = Path(output)
    if not output.name.endswith(SUFFIXES):
        raise UserError(f"--output={output} is no name of an archive; it must end with {' or '.join(SUFFIXES)}")
    if output.exists():
        raise UserError(f"{output} exists already; check it with --input={output}, delete it, or give another --output")
    return output


def predict_submission(
    checkpoint: str,
    server: Server,
    source: Source,
    output: str | os.PathLike,
    *,
    batch: int | None = None,
    **views: Any,
) -> Path:
    """Predicts all records with the network of a run and writes the archive. Returns its path.

    Images that are done wait in OUTPUT.parts, from where a run that was interrupted goes on; the archive appears when
    it is complete. batch, views: as in `predict_clips`. Raises UserError for a network of other classes, or when the
    parts were begun with other settings.
    """
    output = check_output(output)
    network = open_network(checkpoint)
    classes = network.label_map
    if classes.class_names != source.class_names:
        raise UserError(
            f"the network in {checkpoint} knows the classes {_names(classes.class_names)} but {server.dataset} has "
            f"{_names(source.class_names)}; submit a network that was trained for them"
        )
    parts = output.with_name(output.name + ".parts")
    settings = {"weights": _digest(network.variables), "dataset": server.dataset, "images": len(source), **views}
    _begin(parts, settings)
    decode, done = source.label_map.with_ids().decode, set(_done(parts / "ids", server, source))
    missing = _Records(source, [index for index, name in enumerate(source.names) if name not in done])
    if len(missing):
        with progress_bar("predict", len(missing)) as progress:
            predict_files(
                network.predictor(**views),
                [missing],
                parts,
                palette=source.palette,
                decode=decode,
                write=("ids",),
                batch=images_at_once(batch),
                progress=progress,
            )
    with open_files(parts / "ids") as files:
        package.pack(server, files, source, output)
    shutil.rmtree(parts, ignore_errors=True)
    return output


def pack_submission(place: str | os.PathLike, server: Server, source: Source, output: str | os.PathLike) -> Path:
    """Checks the predictions in a folder and writes the archive; see `package.pack`."""
    check_output(output)
    with open_files(place) as files:
        return package.pack(server, dataclasses.replace(files, packed=False), source, output)


def judge(place: str | os.PathLike, server: Server, source: Source, *, split: str, labelled: bool) -> Submission:
    """Reads an archive or folder as the server will, and scores it where the truth is known."""
    place = Path(place).expanduser()
    with open_files(place) as files, progress_bar("check", len(source)) as progress:
        scores = None
        if labelled:
            found = metrics.official_scores(server.rule, package.score(server, files, source, progress=progress))
            scores = plain_scores(found, source.class_names, server.rule.category_names)
        else:
            package.check(server, files, source, progress=progress)
    notes = package.warnings(server, split, source, place)
    return Submission(place, len(source), "" if place.is_dir() else _sha256(place), tuple(notes), scores)


@dataclasses.dataclass(frozen=True)
class _Records:
    """Some records of a source as a clip, read ahead in threads."""

    source: Source
    rows: list[int]
    name = "records"
    is_video = False

    def __len__(self) -> int:
        return len(self.rows)

    def frames(self, *, on_error: Any) -> Iterator[Frame]:
        """Yields every record; one that cannot be read is an error, as a submission needs all of them."""
        for row, record in zip(self.rows, ordered_map(self.source.__getitem__, self.rows)):
            yield Frame(record.name, row, record.image)


def _begin(parts: Path, settings: Mapping[str, Any]) -> None:
    """Notes the settings beside the parts, or compares them with those of the run that began."""
    file = parts / "settings.json"
    text = as_text(settings)
    with contextlib.suppress(FileNotFoundError, ValueError):
        changes = differences(json.loads(file.read_text()), json.loads(text), where="settings")
        if changes:
            raise UserError(f"{parts} was begun with other settings ({'; '.join(changes)}); delete it to start again")
        return
    try:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, file)
    except OSError as error:
        raise UserError(f"{parts} cannot be written ({error.strerror}); give another --output") from None


def _done(folder: Path, server: Server, source: Source) -> Iterator[str]:
    """Names of the records whose prediction is written in full."""
    for name, size in zip(source.names, source.sizes.tolist()):
        file = folder / f"{name}.png"
        with contextlib.suppress(
            UserError, FileNotFoundError
        ):  # not there, or cut by the end of a run: predicted again
            package.check_prediction(server, file.read_bytes(), str(file), size)
            yield name


def _names(classes: Sequence[str]) -> str:
    return f"{', '.join(classes[:3])}, ... ({len(classes)})"


def _digest(variables: Any) -> str:
    """16 hex digits of the weights: a run that has gone on training does not finish what its past began."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
