"""results.md: a table for each item, and what was skipped; and the same between the markers of docs/accelerator.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.accelerator.environment import ROOT
from benchmarks.accelerator.items import ITEMS
from benchmarks.accelerator.results import Results
from segjax.errors import UserError
from segjax.files import write_file

PAGE = ROOT / "docs" / "accelerator.md"
BEGIN, END = "<!-- results: python -m benchmarks.accelerator --publish -->", "<!-- end of the results -->"
REHEARSED = "A rehearsal on the CPU with tiny sizes: the figures show that everything runs, and nothing else."


def markdown(results: Results) -> str:
    """Returns the tables; repeated runs as median (smallest to largest)."""
    about = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in about.get("packages", {}).items())
    known = [about["device"], f"driver {about['driver']}" if about["driver"] else "", versions]
    known += [f"{about['cores']} cores", about["date"], f"commit {about['commit']}" if about["commit"] else ""]
    blocks = [", ".join(filter(None, known)) + "."]
    blocks += [f"**{REHEARSED}**"] if about["rehearsal"] else []
    missing = []
    for name, title in dict((item.name, item.title) for item in ITEMS).items():
        parts = results.items.get(name, {})
        done = {part: found["figures"] for part, found in parts.items() if found["state"] == "done"}
        if done:
            blocks.append(f"### {title}\n\n{_table(done)}")
        missing += [_reason(name, part, found) for part, found in parts.items() if found["state"] != "done"]
    if missing:
        blocks.append("### Not measured\n\n" + "\n".join(missing))
    return "\n\n".join(blocks) + "\n"


def failures(results: Results) -> list[str]:
    """Returns a line for each part that failed, and for each network that is not what was published."""
    found = []
    for name, parts in results.items.items():
        for part, known in parts.items():
            if known["state"] == "failed":
                found.append(f"{name}, {part}: {known['reason']}")
            elif known["state"] == "done" and not known["figures"].get("holds", True):
                found.append(f"{name}, {part}: error {known['figures']['error / max']:.1e} is more than allowed")
    return found


def publish(results: Results, page: Path = PAGE) -> None:
    """Copies the tables into the page, between its markers.

    Raises UserError without results, for those of a rehearsal, and for a page without the markers.
    """
    if not results.environment:
        raise UserError(f"there is no {results.path}; measure first, or give --output")
    if results.environment["rehearsal"]:
        raise UserError(f"{results.path} is of a rehearsal, whose figures mean nothing; measure on an accelerator")
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{page} lacks the line {END if begin else BEGIN!r}, between which the tables go; write it")
    write_file(page, f"{before}{BEGIN}\n\n{markdown(results)}\n{END}{after}")


def _table(rows: dict[str, dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for part, figures in rows.items():
        lines.append(f"| {part} | {' | '.join(_cell(figures.get(name, '')) for name in columns)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{_cell(value['median'])} ({_cell(value['min'])} to {_cell(value['max'])})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("|", "/")


def _reason(item: str, part: str, found: dict[str, Any]) -> str:
    return f"* {item}, {part}: {found['state']}; {found.get('reason', 'its process died')}"
