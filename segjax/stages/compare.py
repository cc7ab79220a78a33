"""Stage "compare": the scores of other stages of the run, side by side in tables and a plot."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from segjax.errors import UserError
from segjax.evaluation.comparison import Cell, markdown, write_comparison
from segjax.files import plain
from segjax.stages.config.keys import check_keys
from segjax.stages.stage import Context, Stage

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class CellOptions:
    """A cell of the table.

    series: its row.
    at: its column.
    stages: of kind "evaluate", which differ by their seed.
    """

    series: str
    at: Any
    stages: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Options:
    """The section of a stage "compare".

    cells: a stage may be in several of them.
    axis: name of the quantity `at`.
    title: of the tables and the plot.
    baseline: see `write_comparison`.
    """

    cells: tuple[CellOptions, ...]
    axis: str
    title: str
    baseline: str


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section. Raises UserError for unknown and missing keys, and for no cells."""
    check_keys(settings, {"kind", "title", "axis", "baseline", "cells"}, where=where, required=("cells",))
    cells, fields = [], ("series", "at", "stages")
    for number, cell in enumerate(plain(settings["cells"])):
        check_keys(cell, fields, where=f"{where}.cells[{number}]", required=fields)
        cells.append(CellOptions(cell["series"], cell["at"], tuple(cell["stages"])))
    if not cells:
        raise UserError(f"config key {where}.cells is empty; name the stages to compare.")
    return Options(tuple(cells), settings.get("axis", ""), settings.get("title", ""), settings.get("baseline", ""))


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes table.md, table.csv, classes.csv and curves.png, and returns the report.

    Raises UserError for a stage without report or without mIoU.
    """
    cells = []
    for cell in options.cells:
        reports = [_report(context.workdir / stage / "report.json", stage) for stage in cell.stages]
        scores, classes = (tuple(report.get(key, {}) for report in reports) for key in ("miou", "iou"))
        cells.append(Cell(cell.series, cell.at, scores, classes))
    if jax.process_index() == 0:
        files = write_comparison(
            cells, context.folder, title=options.title, axis=options.axis, baseline=options.baseline
        )
        for line in [options.title, *markdown(cells, axis=options.axis).splitlines()]:
            log.info(line)
        log.info("tables and plot: %s", ", ".join(map(str, files)))
    return {
        "cells": [
            {"series": c.series, "at": c.at, "runs": len(c.miou), "miou": c.mean, "deviation": c.deviation}
            for c in cells
        ]
    }


def _report(path: Path, stage: str) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        raise UserError(f"stage {stage} has no report in {path}, so nothing can be compared; run it first.") from None
    if report.get("miou") is None:
        raise UserError(
            f"stage {stage} is of kind {report.get('kind')} and gives no mIoU; name one of kind evaluate, on labelled "
            "images."
        )
    return report


STAGE = Stage(read, run, again="always")
