"""A comparison as Markdown: means, differences to the baseline, and both by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from segjax.evaluation.comparison import Cell, Column, Comparison, Difference, differences

NOT_KNOWN = "-"
POWER = (
    "Runs are paired by the seed of their training run. Half the interval's length is what these seeds can show: with "
    "this deviation a smaller difference would contain 0."
)
BY_CHANCE = "Bold: the 95 % interval excludes 0, as 1 in 20 does by chance if there is no difference."


def page(comparison: Comparison) -> str:
    """Returns all tables with the rule above them, and the names of stages that are not finished below."""
    parts = [
        comparison.title,
        rule_line(comparison),
        markdown(comparison),
        numbers_markdown(comparison),
        differences_markdown(comparison),
        class_markdown(comparison),
        class_differences_markdown(comparison),
        missing_line(comparison),
    ]
    return "\n\n".join([parts[0], *filter(None, parts[1:])]) + "\n"


def rule_line(comparison: Comparison) -> str:
    """Returns the rule of the comparison, "" without one."""
    return comparison.rule and f"Rule: {comparison.rule}."


def missing_line(comparison: Comparison) -> str:
    """Returns which stages are not finished, "" if all are."""
    return comparison.missing and f"Not finished, not in these tables: {', '.join(comparison.missing)}." or ""


def markdown(comparison: Comparison) -> str:
    """Returns a table of the first column, "mean ± deviation": rows are series, columns places on the axis.

    If cells differ by their number of runs, each has it in parentheses.
    """
    column, places = comparison.columns[0], comparison.places
    found = {(cell.series, cell.at): cell for cell in comparison.cells}
    counted = len({len(cell.known(column.key)) for cell in comparison.cells}) > 1
    rows = [
        [series, *(_mean(found[series, at], column, counted) if (series, at) in found else "" for at in places)]
        for series in comparison.series
    ]
    table = _table([comparison.axis, *map(str, places)], rows)
    return f"{table}\n\nIn parentheses: number of runs." if counted else table


def numbers_markdown(comparison: Comparison) -> str:
    """Returns a table of all columns, "mean ± deviation": rows are cells. With a single column, returns ""."""
    if len(comparison.columns) < 2:
        return ""
    headings = ["", comparison.axis, "runs", *(column.heading for column in comparison.columns)]
    rows = [
        [c.series, c.at, len(c.done), *(_mean(c, column) for column in comparison.columns)]
        for c in _once(comparison.cells)
    ]
    return _table(headings, rows)


def differences_markdown(comparison: Comparison) -> str:
    """Returns a table of the differences of the first column, with their power; "" if no cell has a baseline."""
    column, rows = comparison.columns[0], []
    for found in differences(comparison, key=column.key):
        names = [found.cell.series, found.cell.at, comparison.name_of(found.baseline)]
        rows.append([*names, *_interval(found, column), _pairs(found)])
    if not rows:
        return ""
    unit = f" of {column.label}{', points' if column.percent else ''}"
    headings = ["", comparison.axis, "minus", f"difference{unit}", "95 % interval", "it is", "shows", "pairs"]
    return f"{_table(headings, rows)}\n\n{POWER}"


def class_markdown(comparison: Comparison) -> str:
    """Returns a table of the mean IoU per class in percent: two rows per series, its first place and its best.

    The best place is chosen among the others. With text on the axis all places are shown. Without IoU by class,
    returns "".
    """
    names, key = comparison.class_names, comparison.columns[0].key
    if not names:
        return ""
    chosen: list[Cell] = []
    for series in comparison.series:
        row = [cell for cell in comparison.cells if cell.series == series and cell.done]
        if comparison.has_text:
            chosen += row
        elif row:
            chosen += [row[0], max(row[1:] or row, key=lambda cell: _or_least(cell.mean(key)))]
    shares = Column("iou", "IoU", True)
    rows = [
        [cell.series, cell.at, *("" if (v := cell.class_iou(name)) is None else shares.text(v) for name in names)]
        for cell in _once(chosen)
    ]
    return _table(["", "at", *names], rows)


def class_differences_markdown(comparison: Comparison) -> str:
    """Returns a table of the differences of the IoU by class, "mean ± half the 95 % interval's length", in points.

    Rows are classes, columns cells with a baseline. A difference whose interval excludes 0 is bold. Without IoU by
    class, or without a baseline, returns "".
    """
    by_class = {name: differences(comparison, class_name=name) for name in comparison.class_names}
    shown = next(iter(by_class.values()), [])
    if not shown:
        return ""
    headings = [f"{comparison.name_of(d.cell)} minus {comparison.name_of(d.baseline)}" for d in shown]
    rows = [[name, *map(_class_difference, found)] for name, found in by_class.items()]
    return f"{_table(['IoU, points', *headings], rows)}\n\n{BY_CHANCE}"


def difference_lines(comparison: Comparison) -> list[str]:
    """Returns a sentence for each difference of the first column, for the log."""
    column, lines = comparison.columns[0], []
    for found in differences(comparison, key=column.key):
        text, ends, verdict, shows = _interval(found, column)
        head = f"{comparison.name_of(found.cell)} minus {comparison.name_of(found.baseline)}: {text}"
        tail = f"95 % interval {ends}: {verdict}; {_pairs(found)} pairs show {shows}" if verdict else ends
        lines.append(f"{head}, {tail}")
    return lines


def _mean(cell: Cell, column: Column, counted: bool = False) -> str:
    mean, spread = cell.mean(column.key), cell.deviation(column.key)
    if mean is None:
        return NOT_KNOWN
    text = column.text(mean) + ("" if spread is None else f" ± {column.text(spread, like=mean)}")
    return f"{text} ({len(cell.known(column.key))})" if counted else text


def _interval(found: Difference, column: Column) -> tuple[str, str, str, str]:
    """Returns the texts of the mean difference, the interval, where it lies, and what it could show."""
    interval = found.interval
    if interval is None:
        return NOT_KNOWN, f"no common {found.by}", "", ""
    mean = column.text(interval.mean, sign=True)
    if interval.low is None or interval.high is None or interval.half_width is None:
        return mean, "one pair, no interval", "", ""
    ends = f"{column.text(interval.low, sign=True)} to {column.text(interval.high, sign=True)}"
    return mean, ends, interval.verdict, f"{column.text(interval.half_width)}{' points' * column.percent} or more"


def _pairs(found: Difference) -> str:
    """Returns how many runs are paired, of how many, and how if not by seed."""
    count = len(found.pairs)
    text = str(count) if count == found.most else f"{count} of {found.most}"
    return text if found.by == "seed" else f"{text}, by position"


def _class_difference(found: Difference) -> str:
    shares, interval = Column("iou", "IoU", True), found.interval
    if interval is None:
        return NOT_KNOWN
    text = shares.text(interval.mean, sign=True)
    if interval.half_width is not None:
        text += f" ± {shares.text(interval.half_width)}"
    return f"**{text}**" if interval.verdict in ("above 0", "below 0") else text


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells, of those with the same place and runs only the first: several series start at the same."""
    return list({(cell.at, cell.stages or cell.series): cell for cell in reversed(cells)}.values())[::-1]


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None else value


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["|".join(["", *(f" {text} " if text else " " for text in headings), ""]), "|---" * len(headings) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
