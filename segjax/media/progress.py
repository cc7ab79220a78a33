"""A progress bar for commands that go through many images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress_bar(what: str, total: int | None, *, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Shows a bar with the rate on stderr and yields update(done); silent if stderr is not a terminal.

    what: name of the bar.
    total: number of steps; None or 0 = unknown.
    unit: plural of what is counted.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task(what, total=total or None, rate="compiling")

    def update(done: int) -> None:
        speed = bar.tasks[0].speed
        bar.update(task, completed=done, rate=f"{speed:.1f} {unit}/s" if speed else "")

    with bar:
        yield update
