"""Stage "compare": numbers of other stages of the run, side by side in tables and plots."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Literal

import jax

from segjax.errors import UserError, choose, did_you_mean
from segjax.evaluation import comparison_tables as tables
from segjax.evaluation.comparison import (
    Cell,
    Column,
    Comparison,
    Difference,
    Place,
    Run,
    baseline_of,
    column,
    difference,
)
from segjax.evaluation.comparison_files import write_comparison
from segjax.files import plain
from segjax.stages.config.keys import check_keys
from segjax.stages.report_files import read_report
from segjax.stages.report_values import number_of, seed_of
from segjax.stages.stage import Context, Stage

log = logging.getLogger("segjax")

STYLES = {"solid": "solid", "dashed": "dashed"}


@dataclasses.dataclass(frozen=True)
class CellOptions:
    """A cell of the table.

    series: its row.
    at: its column, a number or text.
    stages: which differ by their seed; of any kind that reports the numbers.
    group: of series that have one colour in the plot, "" = none.
    style: of the line, "solid" or "dashed".
    baseline: series to which the cell is compared, "" for none.
    """

    series: str
    at: Place
    stages: tuple[str, ...]
    group: str
    style: Literal["solid", "dashed"]
    baseline: str


@dataclasses.dataclass(frozen=True)
class Options:
    """The section of a stage "compare".

    cells: a stage may be in several of them.
    columns: numbers of the reports; the first makes the main table and the plots.
    axis: name of the quantity `at`.
    title: of the tables and the plots.
    baseline: series to which cells are compared, see `Comparison`.
    rule: when a difference counts, as text above the tables.
    band: whether the plot shows the interval of the baseline.
    partial: whether stages that are not finished are left out, and named, instead of being an error.
    """

    cells: tuple[CellOptions, ...]
    columns: tuple[Column, ...]
    axis: str
    title: str
    baseline: str
    rule: str
    band: bool
    partial: bool


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section.

    Raises UserError for unknown and missing keys, no cells, one place of a series twice, a series of two styles or
    groups, and a baseline that is no series.
    """
    known = {"kind", "title", "axis", "baseline", "cells", "columns", "rule", "band", "partial"}
    check_keys(settings, known, where=where, required=("cells",))
    baseline = settings.get("baseline", "")
    cells = [
        _read_cell(cell, baseline, f"{where}.cells[{number}]") for number, cell in enumerate(plain(settings["cells"]))
    ]
    if not cells:
        raise UserError(f"config key {where}.cells is empty; name the stages to compare.")
    _check_cells(cells, baseline, where)
    columns = _read_columns(plain(settings.get("columns", ["miou"])), f"{where}.columns")
    for key in ("band", "partial"):
        if not isinstance(settings.get(key, False), bool):
            raise UserError(f"config key {where}.{key}={settings[key]!r} must be True or False.")
    return Options(
        cells=tuple(cells),
        columns=tuple(columns),
        axis=settings.get("axis", ""),
        title=settings.get("title", ""),
        baseline=baseline,
        rule=settings.get("rule", "").rstrip("."),
        band=settings.get("band", False),
        partial=settings.get("partial", False),
    )


def _read_cell(cell: Any, baseline: str, where: str) -> CellOptions:
    names, required = ("series", "at", "stages", "group", "style", "baseline"), ("series", "at", "stages")
    check_keys(cell, names, where=where, required=required)
    at, stages = cell["at"], cell["stages"]
    if isinstance(at, bool) or not isinstance(at, (int, float, str)):
        raise UserError(f"config key {where}.at={at!r} must be a number or text, the place on the axis.")
    if not isinstance(stages, list) or not stages or not all(isinstance(name, str) for name in stages):
        raise UserError(f"config key {where}.stages={stages!r} must list names of stages, such as ('evaluate',).")
    style = choose(STYLES, cell.get("style", "solid"), where=f"{where}.style")
    return CellOptions(cell["series"], at, tuple(stages), cell.get("group", ""), style, cell.get("baseline", baseline))


def _check_cells(cells: list[CellOptions], baseline: str, where: str) -> None:
    first: dict[str, CellOptions] = {}
    for number, cell in enumerate(cells):
        here = f"{where}.cells[{number}]"
        if any((cell.series, cell.at) == (other.series, other.at) for other in cells[:number]):
            raise UserError(f"config key {here} repeats {cell.series!r} at {cell.at!r}; give each place once.")
        other = first.setdefault(cell.series, cell)
        if (cell.group, cell.style) != (other.group, other.style):
            raise UserError(f"config key {here}: all cells of {cell.series!r} must have the same group and style.")
    for number, cell in enumerate(cells):
        if cell.baseline and cell.baseline not in first:
            key = f"{where}.baseline" if cell.baseline == baseline else f"{where}.cells[{number}].baseline"
            raise UserError(f"config key {key}={cell.baseline!r} is no series.{did_you_mean(cell.baseline, first)}")


def _read_columns(found: Any, where: str) -> list[Column]:
    columns = []
    for number, one in enumerate(found if isinstance(found, list) else ()):
        if isinstance(one, str):
            one = {"key": one}
        check_keys(one, ("key", "label", "percent"), where=f"{where}[{number}]", required=("key",))
        columns.append(column(one["key"], one.get("label", ""), one.get("percent")))
    if not columns or len({one.key for one in columns}) < len(columns):
        raise UserError(
            f"config key {where}={found!r} must list one number of the reports or more, each once, such as ('miou',)."
        )
    return columns


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return {
        f"cells[{number}].stages[{position}]": name
        for number, cell in enumerate(options.cells)
        for position, name in enumerate(cell.stages)
    }


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes the tables and plots of `write_comparison`, and returns the report.

    Raises UserError for a stage without report, unless `partial`, for a report without one of the numbers, and if no
    stage is finished.
    """
    found = {name: _read_run(options, context, name) for cell in options.cells for name in cell.stages}
    missing = tuple(name for name, one in found.items() if one is None)
    if len(missing) == len(found):
        raise UserError(f"none of the {len(found)} stages of {context.name}.cells is finished; run one first.")
    comparison = Comparison(
        cells=tuple(
            Cell(
                cell.series,
                cell.at,
                tuple(found[name] for name in cell.stages),
                group=cell.group,
                style=cell.style,
                baseline=cell.baseline,
            )
            for cell in options.cells
        ),
        columns=options.columns,
        title=options.title,
        axis=options.axis,
        baseline=options.baseline,
        rule=options.rule,
        band=options.band,
        missing=missing,
    )
    if jax.process_index() == 0:
        files = write_comparison(comparison, context.folder)
        _log(comparison)
        log.info("tables and plots: %s", ", ".join(map(str, files)))
    return {"cells": [_describe(cell, comparison) for cell in comparison.cells], "missing": list(missing)}


def _read_run(options: Options, context: Context, name: str) -> Run | None:
    """Returns the numbers of a stage, None if it is not finished and need not be."""
    folder = context.workdir / name
    report = read_report(folder)
    if report is None:
        if options.partial:
            return None
        raise UserError(
            f"stage {name} has no report in {folder / 'report.json'}, so nothing can be compared; run it first, or "
            f"compare what is finished with --config.{context.name}.partial=True."
        )
    values = {one.key: number_of(report, one.key, folder) for one in options.columns}
    key = options.columns[0].key
    if values[key] is None:
        raise UserError(
            f"{folder / 'report.json'} has {key} = null, so nothing can be compared; name a stage that has a number, "
            "such as one of kind evaluate on labelled images."
        )
    iou = report.get("iou")
    return Run(name, seed_of(report, folder), values, iou if isinstance(iou, dict) else {})


def _log(comparison: Comparison) -> None:
    lines = [comparison.title, tables.rule_line(comparison), *tables.markdown(comparison).splitlines()]
    lines += [*tables.difference_lines(comparison), tables.missing_line(comparison)]
    for line in filter(None, lines):
        log.info(line)
    for cell in comparison.cells:
        other = baseline_of(cell, comparison.cells)
        if other is not None and difference(cell, other, key=comparison.columns[0].key).by == "position":
            log.warning(
                "%s at %s and %s: seeds of their training runs are unknown or repeated, so runs are paired by position",
                cell.series,
                cell.at,
                other.series,
            )


def _describe(cell: Cell, comparison: Comparison) -> dict[str, Any]:
    """Returns a cell for the report: means by column, the deviation and difference of the first column."""
    key, other = comparison.columns[0].key, baseline_of(cell, comparison.cells)
    return {
        "series": cell.series,
        "at": cell.at,
        "runs": len(cell.done),
        "seeds": [run.seed for run in cell.done],
        **{one.key: cell.mean(one.key) for one in comparison.columns},
        "deviation": cell.deviation(key),
        "difference": None if other is None else _describe_difference(difference(cell, other, key=key)),
    }


def _describe_difference(found: Difference) -> dict[str, Any]:
    head = {"minus": found.baseline.series, "at": found.baseline.at, "paired_by": found.by, "pairs": list(found.pairs)}
    interval = found.interval
    if interval is None:
        return {**head, "mean": None, "low": None, "high": None, "half_width": None, "interval": ""}
    ends = {"low": interval.low, "high": interval.high, "half_width": interval.half_width}
    return {**head, "mean": interval.mean, **ends, "interval": interval.verdict}


STAGE = Stage(read, run, inputs, again="always")
