"""Predictions for an evaluation server: finds, checks and packs them, and scores those of a finished archive."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segjax import metrics
from segjax.data import Source
from segjax.data.folders import some
from segjax.data.image_files import decode_mask, encode_png
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.media.archives import Files, write_archive
from segjax.submission.servers import Server


def find_predictions(server: Server, files: Files, names: Sequence[str]) -> list[str]:
    """Returns the file of every record, in the order of the names.

    In an archive a file must be where the server looks for it; in a folder, its name is enough.

    Raises UserError for a record with no or several files, and for a file that belongs to no record.
    """
    by_stem: dict[str, list[str]] = {}
    for file in files.read:
        by_stem.setdefault(_stem(file), []).append(file)
    found, missing = [], []
    for name in names:
        mine = _candidates(server, by_stem, name)
        if files.packed:
            mine = [file for file in mine if server.matches(name, file)]
        if len(mine) > 1:
            raise UserError(f"{files.place} holds {len(mine)} predictions of {name} ({some(mine)}); keep one of them")
        found += mine
        missing += [] if mine else [server.path(name)]
    if missing:
        raise UserError(
            f"{files.place} lacks {len(missing)} of {len(names)} predictions ({some(missing)}); predict them too"
        )
    strange = sorted(set(files.read) - set(found))
    if strange:
        raise UserError(
            f"{files.place} holds {len(strange)} files that belong to no image of the split ({some(strange)}); "
            "remove them, or give the folder of the id images alone"
        )
    return found


def _candidates(server: Server, by_stem: Mapping[str, list[str]], name: str) -> list[str]:
    if server.prefix_is_enough:
        return [file for stem, files in by_stem.items() if stem.startswith(name) for file in files]
    return by_stem.get(name, [])


def _stem(file: str) -> str:
    name = file.rpartition("/")[2]
    return name[:-4] if name.lower().endswith(".png") else name


def check_prediction(server: Server, data: bytes, where: str, size: Sequence[int]) -> np.ndarray:
    """Returns the ids uint8 (h, w) of one file.

    data: content of the file.
    where: name of the file in errors.
    size: (h, w) of its image.

    Raises UserError unless it is a PNG of this size with ids that the server accepts.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise UserError(f"{where} is no PNG, which the server of {server.dataset} wants; write the ids as PNG")
    ids = decode_mask(data, where)
    if ids.shape != tuple(size):
        raise UserError(
            f"{where} is {ids.shape[1]}x{ids.shape[0]} but its image is {size[1]}x{size[0]}; "
            "predict at the size of the image"
        )
    wrong = [int(value) for value in np.unique(ids) if value > 255 or not server.allowed[value]]
    if wrong:
        kind = "label ids, not train ids" if max(server.ids) == 33 else "class ids"
        raise UserError(
            f"{where} holds the ids {some(wrong)} but the server of {server.dataset} takes {_ranges(server.ids)}; "
            f"write {kind}"
        )
    return ids.astype(np.uint8)


def pack(server: Server, files: Files, source: Source, output: str | os.PathLike) -> Path:
    """Checks the predictions of all records and writes the server's archive, in constant memory; returns its path.

    Raises UserError for what `find_predictions`, `check_prediction` or `write_archive` refuse.
    """

    def encode(job) -> tuple[str, bytes]:
        name, data, where, size = job
        return server.path(name), encode_ids(check_prediction(server, data, where, size), server.colors)

    return write_archive(output, ordered_map(encode, _jobs(server, files, source)))


def check(server: Server, files: Files, source: Source, *, progress: Callable[[int], None] | None = None) -> None:
    """Reads every prediction as the server does. Raises UserError for the first one that it would refuse."""
    for done, _ in enumerate(
        ordered_map(lambda job: check_prediction(server, *job[1:]), _jobs(server, files, source)), 1
    ):
        if progress:
            progress(done)


def score(
    server: Server, files: Files, source: Source, *, progress: Callable[[int], None] | None = None
) -> metrics.Tally:
    """Counts the predictions of an archive or folder by the server's rule, for `segjax.metrics.official_scores`.

    A few images are in memory at a time.

    source: labelled records, opened with instances=True for iIoU.
    progress: called with the number of predictions counted so far.

    Raises UserError for a prediction that the server would refuse, as `check` does.
    """
    rule, train_id_of = server.rule, source.label_map.table.ids

    def count(job) -> metrics.Tally:
        index, (_, data, where, size) = job
        ids = check_prediction(server, data, where, size)
        record = source[index]
        return metrics.tally(
            rule, server.labels[ids], record.label, instances=record.instances, train_id_of=train_id_of
        )

    total = metrics.empty_tally(rule)
    for one in ordered_map(count, enumerate(_jobs(server, files, source))):
        total += one
        if progress:
            progress(total.images)
    return total


def _jobs(server: Server, files: Files, source: Source) -> Iterator[tuple[str, bytes, str, list[int]]]:
    """Yields (name, content, origin, size) of every prediction, read in one thread: archives require it."""
    found = find_predictions(server, files, source.names)
    for name, file, size in zip(source.names, found, source.sizes.tolist()):
        yield name, files.read[file](), f"{file} in {files.place}", size


def warnings(server: Server, split: str, source: Source, output: str | os.PathLike = "") -> list[str]:
    """Lists the reasons, one sentence each, why the real server would refuse an archive that is valid in itself.

    output: path of the archive.
    """
    found = []
    expected = dict(server.images).get(split)
    if expected is not None and len(source) != expected:
        found.append(f"{split} has {expected} images and these are {len(source)}")
    odd = [size for size in source.sizes.tolist() if server.size and tuple(size) != server.size]
    if odd:
        want = f"{server.size[1]}x{server.size[0]}"
        found.append(
            f"the server wants {want} and {len(odd)} images are of another size, such as {odd[0][1]}x{odd[0][0]}"
        )
    if server.dataset == "voc2012" and str(output).endswith(".zip"):
        found.append("the server of voc2012 takes a tar archive: let --output end with .tgz")
    return found


def encode_ids(ids: np.ndarray, colors: np.ndarray | None) -> bytes:
    """Returns ids uint8 (h, w) as PNG: grey, or with a palette uint8 (256, 3)."""
    if colors is None:
        return encode_png(ids)
    picture, data = Image.fromarray(ids), io.BytesIO()
    picture.putpalette(colors.tobytes())
    picture.save(data, "PNG")
    return data.getvalue()


def _ranges(ids: Sequence[int]) -> str:
    """Returns sorted ids as text: (0, 1, 2, 255) -> "0..2 and 255"."""
    parts, start = [], ids[0]
    for value, after in zip(ids, [*ids[1:], None]):
        if after != value + 1:
            parts.append(f"{start}..{value}" if value > start else str(value))
            start = after
    return " and ".join(parts)
