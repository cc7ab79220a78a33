"""Numbers of the reports of finished stages, and the seed of the training run behind them."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.errors import UserError, did_you_mean
from segjax.stages.report_files import read_report

Report = Mapping[str, Any]
SOURCE = "checkpoint."  # start of a name: the number is one of the report of the stage that trained the network
_NO_RESULTS = ("settings", "versions")  # parts of a report that help no one who misspelled a number


def source_folder(report: Report, folder: Path) -> Path | None:
    """Returns the folder that the setting `checkpoint` of a stage names, None without one.

    report: of the stage.
    folder: of the stage; stages of the same run lie beside it.
    """
    name = _settings(report).get("checkpoint")
    if not name:
        return None
    beside = folder.parent / name
    return beside if beside.is_dir() else Path(name).expanduser()


def seed_of(report: Report, folder: Path) -> int | None:
    """Returns the seed of the training run behind a report: the stage itself, or the one whose checkpoint it uses.

    None if a report on the way is missing or has no settings, as of a published checkpoint.

    report: of the stage.
    folder: of the stage.
    """
    seen: set[Path] = set()
    while (source := source_folder(report, folder)) is not None:
        found = read_report(source)
        if found is None or source in seen:
            return None
        report, folder = found, source
        seen.add(source)
    settings = report.get("settings")
    if not isinstance(settings, Mapping):
        return None
    seed = _settings(report).get("seed", settings.get("seed"))
    return seed if isinstance(seed, int) else None


def number_of(report: Report, name: str, folder: Path) -> float | None:
    """Returns a number of a report; None if the report has it as null, as the IoU of a class that no image has.

    report: of a stage.
    name: of the number; a dot leads into a part, as in "iou.car". "checkpoint." leads to the report of the stage whose
        checkpoint the stage uses, as in "checkpoint.seconds".
    folder: of the stage.

    Raises UserError if there is no such number.
    """
    if name.startswith(SOURCE) and "checkpoint" not in report:
        source = source_folder(report, folder)
        found = None if source is None else read_report(source)
        if source is None or found is None:
            raise UserError(
                f"{folder / 'report.json'} has no number {name!r}, because {source or 'its settings'} "
                f"{'has no report' if source else 'name no checkpoint'}; name a stage that uses a trained network."
            )
        return number_of(found, name.removeprefix(SOURCE), source)
    found = list(_find(report, name))
    if not found or not (found[0] is None or _is_number(found[0])):
        known = (known for key, value in report.items() if key not in _NO_RESULTS for known in _names(key, value))
        raise UserError(
            f"{folder / 'report.json'} (kind {report.get('kind')}) has no number {name!r}.{did_you_mean(name, known)}"
        )
    return found[0]


def _settings(report: Report) -> Mapping[str, Any]:
    """Returns the section of the stage as its recipe had it, {} if unknown."""
    settings = report.get("settings")
    section = settings.get("stage") if isinstance(settings, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _find(part: Any, name: str) -> Iterator[Any]:
    """Yields the values of a name with dots; keys may contain dots too."""
    if not isinstance(part, Mapping):
        return
    if name in part:
        yield part[name]
    for key, value in part.items():
        if name.startswith(f"{key}."):
            yield from _find(value, name[len(key) + 1 :])


def _names(name: str, value: Any) -> Iterator[str]:
    """Yields the names of all numbers in a part of a report."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _names(f"{name}.{key}", inner)
    elif _is_number(value):
        yield name


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
