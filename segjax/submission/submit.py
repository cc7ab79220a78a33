"""Makes, checks and scores archives for evaluation servers; the command `segjax submit`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
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
from segjax.files import begin, file_sha256, writing
from segjax.inference.files import predict_files
from segjax.inference.network import images_at_once, open_network
from segjax.media.archives import SUFFIXES, open_files
from segjax.media.clips import Frame
from segjax.media.progress import progress_bar
from segjax.metrics.plain import plain_scores
from segjax.submission import package
from segjax.submission.servers import Server

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class Submission:
    """A checked submission.

    place: archive or folder.
    images: number of predictions.
    sha256: hash of an archive, "" for a folder.
    warnings: reasons why the real server would refuse it, one sentence each.
    scores: scores by the server's rule, see `plain_scores`; None if the truth is unknown.
    """

    place: Path
    images: int
    sha256: str
    warnings: tuple[str, ...]
    scores: Mapping[str, Any] | None


def open_records(
    dataset: str, split: str, *, data_dir: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[TfdsSource, bool]:
    """Opens the records of a split and returns them with whether they are labelled.

    Of a split that is labelled in part, only the labelled records are opened.

    data_dir: folder of built datasets, see `segjax.data.open_source`.
    options: builder options of the dataset.

    Raises UserError as `segjax.data.open_source` does.
    """
    source = open_source(dataset, split, data_dir=data_dir, builder_options=options, labelled_only=False)
    labelled = source.index.labelled
    if labelled.any():
        fields = ("instances",) if (options or {}).get("instances", False) else ()
        source = open_source(dataset, split, data_dir=data_dir, builder_options=options, fields=fields)
    return source, bool(labelled.any())


def check_output(output: str | os.PathLike) -> Path:
    """Returns the path of an archive to write. Raises UserError for another ending, or if the file exists."""
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
    """Predicts all records with the network of a training run, writes the archive and returns its path.

    A network of several taxonomies chooses among the classes of the dataset, which it knows by their names; of equal
    names it takes the first.

    Finished predictions are kept in OUTPUT.parts, so that the same call resumes after an interruption; the archive
    appears when it is complete.

    checkpoint: training run, stage, checkpoint or exported weights.
    batch, views: as in `segjax.inference.files.predict_clips`.

    Raises UserError for a checkpoint that cannot be opened, a network that lacks classes of the dataset, parts begun
    with other settings, or files that cannot be written.
    """
    output = check_output(output)
    network = open_network(checkpoint)
    known = network.label_map.class_names
    if known != source.class_names:  # a network of several taxonomies chooses among the classes of the server
        missing = [name for name in source.class_names if name not in known]
        if missing:
            raise UserError(
                f"the network in {checkpoint} knows the classes {_shown(known)} and not {missing[0]!r}, but "
                f"{server.dataset} has {_shown(source.class_names)}; submit a network that was trained for them"
            )
        views["classes"] = tuple(known.index(name) for name in source.class_names)
        chosen = len(source.class_names)
        log.warning("the network chooses among the %d classes of %s, of its %d", chosen, server.dataset, len(known))
    parts = output.with_name(output.name + ".parts")
    settings = {
        "weights": _weights_digest(network.variables),
        "dataset": server.dataset,
        "images": len(source),
        **views,
    }
    _begin(parts, settings)
    decode, done = source.label_map.with_ids().decode, set(_done(parts / "ids", server, source))
    missing = _Records(source, [index for index, name in enumerate(source.names) if name not in done])
    if len(missing):
        with progress_bar("predict", len(missing)) as progress:
            predict_files(
                network.labeller(**views),
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
    """Checks the predictions of a folder or archive, writes the archive and returns its path; see `package.pack`.

    Raises UserError if the output exists, or for what `package.pack` refuses.
    """
    check_output(output)
    with open_files(place) as files:
        return package.pack(server, dataclasses.replace(files, packed=False), source, output)


def judge(place: str | os.PathLike, server: Server, source: Source, *, split: str, labelled: bool) -> Submission:
    """Reads an archive or folder as the server does, and scores it if the split is labelled.

    Raises UserError for what the server would refuse.
    """
    place = Path(place).expanduser()
    with open_files(place) as files, progress_bar("check", len(source)) as progress:
        scores = None
        if labelled:
            found = metrics.official_scores(server.rule, package.score(server, files, source, progress=progress))
            scores = plain_scores(found, source.class_names, server.rule.category_names)
        else:
            package.check(server, files, source, progress=progress)
    notes = package.warnings(server, split, source, place)
    return Submission(place, len(source), "" if place.is_dir() else file_sha256(place), tuple(notes), scores)


@dataclasses.dataclass(frozen=True)
class _Records:
    """A clip of some records of a source, read ahead in threads."""

    source: Source
    rows: list[int]
    name = "records"
    is_video = False

    def __len__(self) -> int:
        return len(self.rows)

    def frames(self, *, on_error: Any) -> Iterator[Frame]:
        """Yields every record. Raises UserError for one that cannot be read, as a submission needs all records."""
        for row, record in zip(self.rows, ordered_map(self.source.__getitem__, self.rows)):
            yield Frame(record.name, row, record.image)


def _begin(parts: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings beside the parts, or compares them with those of the call that began them."""
    remedy = "delete it to start again"
    with writing(parts, remedy="give another --output"):
        if begin(parts / "settings.json", settings, where="settings", remedy=remedy):
            shutil.rmtree(parts / "ids", ignore_errors=True)


def _done(folder: Path, server: Server, source: Source) -> Iterator[str]:
    """Yields the names of the records whose prediction is complete."""
    for name, size in zip(source.names, source.sizes.tolist()):
        file = folder / f"{name}.png"
        with contextlib.suppress(UserError, FileNotFoundError):  # missing or incomplete: it is predicted again
            package.check_prediction(server, file.read_bytes(), str(file), size)
            yield name


def _shown(classes: Sequence[str]) -> str:
    return f"{', '.join(classes[:3])}, ... ({len(classes)})"


def _weights_digest(variables: Any) -> str:
    """Returns a digest of the weights, so that a submission is not completed with weights from a later step."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]
