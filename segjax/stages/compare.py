"""Stage "compare": the scores of other stages of the run side by side, as tables and a plot."""

from __future__ import annotations

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

log = logging.getLogger("segjax")

KEYS = {"kind", "title", "axis", "baseline", "cells"}
OF_CELL = ("series", "at", "stages")


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Writes table.md, table.csv, classes.csv and curves.png. Returns the report.

    settings.cells: ({"series", "at", "stages"}, ...); stages: of kind "evaluate", which differ by their seed. The same
    stage may be in several cells. axis: what "at" counts. baseline: see `write_comparison`.
    """
    check_keys(settings, KEYS, where=context.name, required=("cells",))
    cells = []
    for number, cell in enumerate(plain(settings["cells"])):
        check_keys(cell, OF_CELL, where=f"{context.name}.cells[{number}]", required=OF_CELL)
        reports = [_report(context.workdir / stage / "report.json", stage) for stage in cell["stages"]]
        cells.append(
            Cell(
                cell["series"],
                cell["at"],
                tuple(report["miou"] for report in reports),
                tuple(report.get("iou", {}) for report in reports),
            )
        )
    if not cells:
        raise UserError(f"config key {context.name}.cells is empty; name the stages to compare.")
    axis, title = settings.get("axis", ""), settings.get("title", "")
    if jax.process_index() == 0:
        files = write_comparison(
            cells, context.folder, title=title, axis=axis, baseline=settings.get("baseline", "")
        )  # fmt: skip
        for line in [title, *markdown(cells, axis=axis).splitlines()]:
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
