"""Comparison of training runs over seeds: means, standard deviations, and differences to a baseline, paired by seed.

The tables are those of VPLR (Zhu et al., CVPR 2019), tables 2 and 3; the plot is its figure 4.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from segjax import metrics
from segjax.evaluation.intervals import Interval, deviation, paired_differences, t_interval

Place = int | float | str
SHARES = {"miou", "iou", "pixel_accuracy", "mean_accuracy", "boundary_f", "trimap_miou", "inside_miou", *metrics.RULES}
LABELS = {"miou": "mIoU", "iou": "IoU"}


@dataclasses.dataclass(frozen=True)
class Column:
    """A number of the reports.

    key: its name, with dots for numbers within others, such as "iou.car".
    label: heading.
    percent: whether it is a share, 0..1, which tables show in percent.
    """

    key: str
    label: str
    percent: bool

    @property
    def heading(self) -> str:
        """Label with its unit."""
        return f"{self.label}, percent" if self.percent else self.label

    def text(self, value: float, *, like: float | None = None, sign: bool = False) -> str:
        """Returns a value as text: a share in percent with one decimal, else three digits.

        like: a value that gets as many decimals, such as the mean for its deviation; None = the value itself.
        sign: whether a positive value gets a "+".
        """
        if self.percent:
            return f"{100 * value:{'+' if sign else ''}.1f}"
        size = abs(value if like is None else like)
        decimals = max(2 - math.floor(math.log10(size)), 0) if size and not float(size).is_integer() else 0
        return f"{value:{'+' if sign else ''}.{decimals}f}"


def column(key: str, label: str = "", percent: bool | None = None) -> Column:
    """Returns a column; None = a share if a part of its key is one of `SHARES`."""
    first, *rest = key.split(".")
    label = label or " ".join([LABELS.get(first, first.replace("_", " ")), *rest])
    return Column(key, label, bool(SHARES.intersection(key.split("."))) if percent is None else percent)


@dataclasses.dataclass(frozen=True)
class Run:
    """Numbers of one run.

    stage: its name.
    seed: of the training run behind the numbers, None if unknown.
    numbers: by key of a column; None if there is none, as the IoU of a class that no image has.
    iou: IoU by class, 0..1, None for a class that no image has.
    """

    stage: str
    seed: int | None
    numbers: Mapping[str, float | None]
    iou: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs that differ by their seed.

    series: name of the line in the plot and of the row in the table.
    at: place on the axis, a number or text.
    runs: of the stages of the cell, None for one that is not finished.
    group: series of one group have one colour; "" = the series is its own.
    style: of the line, "solid" or "dashed".
    baseline: series to which the cell is compared, "" for none.
    """

    series: str
    at: Place
    runs: tuple[Run | None, ...]
    group: str = ""
    style: Literal["solid", "dashed"] = "solid"
    baseline: str = ""

    @property
    def done(self) -> tuple[Run, ...]:
        """Runs that are finished."""
        return tuple(run for run in self.runs if run is not None)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the finished stages."""
        return tuple(run.stage for run in self.done)

    def known(self, key: str) -> list[float]:
        """Returns the numbers of a column that the runs have."""
        return [value for run in self.done if (value := run.numbers.get(key)) is not None]

    def mean(self, key: str) -> float | None:
        """Returns the mean of a column over the runs, None if no run has the number."""
        known = self.known(key)
        return statistics.fmean(known) if known else None

    def deviation(self, key: str) -> float | None:
        """Returns the sample standard deviation of a column, None for fewer than two numbers."""
        return deviation(self.known(key))

    def class_iou(self, name: str) -> float | None:
        """Returns the mean IoU of a class over the runs, None if no run has one."""
        known = [value for run in self.done if (value := run.iou.get(name)) is not None]
        return statistics.fmean(known) if known else None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared.

    cells: each a place of a series.
    columns: numbers of the reports. The first one makes the table of series and places, and the plot.
    title: of tables and plot.
    axis: name of what `Cell.at` counts.
    baseline: series whose only cell is a dotted horizontal line in the plot, "" for none.
    rule: when a difference counts, as text for the reader.
    band: whether the plot shows the baseline's interval.
    missing: stages that are not finished.
    """

    cells: tuple[Cell, ...]
    columns: tuple[Column, ...] = (column("miou"),)
    title: str = ""
    axis: str = ""
    baseline: str = ""
    rule: str = ""
    band: bool = False
    missing: tuple[str, ...] = ()

    @property
    def places(self) -> list[Place]:
        """Places on the axis: numbers in ascending order; with text among them, as the cells have them."""
        places = list(dict.fromkeys(cell.at for cell in self.cells))
        return places if self.has_text else sorted(places)

    @property
    def has_text(self) -> bool:
        """Whether a place on the axis is text."""
        return any(isinstance(cell.at, str) for cell in self.cells)

    @property
    def series(self) -> list[str]:
        """Names of the series, in the order of the cells."""
        return list(dict.fromkeys(cell.series for cell in self.cells))

    def name_of(self, cell: Cell) -> str:
        """Returns the series of a cell, with its place if the series has several."""
        alone = sum(other.series == cell.series for other in self.cells) == 1
        return cell.series if alone else f"{cell.series}, {cell.at}"

    @property
    def class_names(self) -> list[str]:
        """Names of all classes of which a run has the IoU."""
        return list(dict.fromkeys(name for cell in self.cells for run in cell.done for name in run.iou))


@dataclasses.dataclass(frozen=True)
class Difference:
    """What the runs of a cell have more than those of its baseline.

    cell, baseline: compared cells.
    by: whether the runs are paired by seed, or by position if seeds are unknown or repeated.
    pairs: seeds, or positions, of the paired runs.
    interval: mean difference with its t interval, None without a pair.
    """

    cell: Cell
    baseline: Cell
    by: Literal["seed", "position"]
    pairs: tuple[int, ...]
    interval: Interval | None

    @property
    def most(self) -> int:
        """Number of pairs if no run of either cell was without a partner."""
        return max(len(self.cell.done), len(self.baseline.done))


def baseline_of(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """Returns the cell of the baseline at the same place, else its first one; None if there is nothing to compare.

    A cell of the baseline itself, or with the same stages, has no baseline.
    """
    found = [other for other in cells if other.series == cell.baseline]
    if not found or cell.series == cell.baseline:
        return None
    other = next((other for other in found if other.at == cell.at), found[0])
    return other if cell.done and other.done and cell.stages != other.stages else None


def difference(cell: Cell, baseline: Cell, *, key: str = "", class_name: str = "") -> Difference:
    """Returns the difference of a column, or of the IoU of a class, with its 95 % t interval.

    cell: minuend.
    baseline: subtrahend.
    key: of the column, "" for a class.
    class_name: whose IoU is compared, "" for a column.
    """

    def numbers(cell: Cell, by: str) -> dict[int, float | None]:
        return {
            run.seed if by == "seed" and run.seed is not None else position: (
                run.iou.get(class_name) if class_name else run.numbers.get(key)
            )
            for position, run in enumerate(cell.runs)
            if run is not None
        }

    by: Literal["seed", "position"] = "seed" if _has_seeds(cell) and _has_seeds(baseline) else "position"
    found = paired_differences(numbers(cell, by), numbers(baseline, by))
    interval = t_interval(list(found.values())) if found else None
    return Difference(cell, baseline, by, tuple(found), interval)


def differences(comparison: Comparison, *, key: str = "", class_name: str = "") -> list[Difference]:
    """Returns the differences of all cells that have a baseline, see `difference`."""
    pairs = ((cell, baseline_of(cell, comparison.cells)) for cell in comparison.cells)
    return [difference(cell, other, key=key, class_name=class_name) for cell, other in pairs if other is not None]


def _has_seeds(cell: Cell) -> bool:
    """Whether each run has a seed of its own."""
    seeds = [run.seed for run in cell.done]
    return None not in seeds and len(set(seeds)) == len(seeds)
