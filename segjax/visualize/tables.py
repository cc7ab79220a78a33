"""Tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def print_table(table: Table, console: Console | None = None) -> None:
    """Prints a table with all digits, also where the terminal is narrow or the output is a file; console: another."""
    if console is None:
        usual = Console()
        console = Console(width=max(usual.width, Console(width=1000).measure(table).maximum))
    console.print(table)
